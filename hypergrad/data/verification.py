"""What data is on this machine, and whether it is whole."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hypergrad.data.catalogue import CATALOGUE, DataError, Entry, data_root
from hypergrad.data.digits import read_digits
from hypergrad.data.downloading import absent
from hypergrad.data.image_folder import read_folder
from hypergrad.data.standardise import Raw
from hypergrad.data.torchvision_files import (
    find_fault,
    has_checksum,
    read_torchvision,
    stored_files,
)

__all__ = ["Source", "available", "check"]


@dataclass(frozen=True)
class Source:
    """One line of the list of data sets.

    Args:
        name: As in `data=NAME`.
        title: For people.
        location: The folder it is or would be in; `scikit-learn` for the embedded digits.
        state: Whether it can be loaded now, by its files' presence, not their checksums.
        n_train: Training images.
        n_test: Test images.
        origin: Where it comes from and on what terms.
    """

    name: str
    title: str
    location: str
    state: Literal["embedded", "present", "absent"]
    n_train: int
    n_test: int
    origin: str


def available(root: Path | None = None) -> list[Source]:
    """List the named data sets.

    Args:
        root: The data root; see `data_root`.

    Returns:
        One record a data set. A user's own images (`imagefolder`) are not among them.
    """
    folder = data_root(root)
    return [_source(entry, folder) for entry in CATALOGUE.values()]


def check(name: str, root: Path | None = None) -> str:
    """Verify a data set: checksums, counts, shapes and labels.

    Args:
        name: A named data set, or `imagefolder`.
        root: The data root; for `imagefolder`, the folder of images.

    Returns:
        A line that says what was verified.

    Raises:
        DataError: If the set is missing or broken.
        ValueError: If there is no such data set.
    """
    if name == "imagefolder":
        return _check_folder(root)
    if name not in CATALOGUE:
        raise ValueError(f"unknown data set {name!r}: choose one of {', '.join(CATALOGUE)}")
    if name == "digits":
        return _report(CATALOGUE[name], *read_digits(), "scikit-learn", "counts, shapes, labels")
    return _check_stored(name, data_root(root))


def _source(entry: Entry, root: Path) -> Source:
    location, state = str(root), "absent"
    if entry.name == "digits":
        location, state = "scikit-learn", "embedded"
    elif find_fault(entry.name, root, checksums=False) is None:
        state = "present"
    return Source(
        entry.name, entry.title, location, state, entry.n_train, entry.n_test, entry.origin
    )


def _check_stored(name: str, root: Path) -> str:
    fault = find_fault(name, root, checksums=False)
    if fault is not None:
        raise absent(name, root, fault)
    packed = [file for file in stored_files(name, root, archives=True) if file.path.exists()]
    summed = {file for file in (*packed, *stored_files(name, root)) if file.md5 is not None}
    for file in sorted(summed):
        if not has_checksum(file):
            raise DataError(
                f"{file.path} does not have the checksum {file.md5}: delete it and run "
                f"`hypergrad data download {name}`"
            )
    train, test = read_torchvision(name, root)
    verified = f"counts, shapes, labels and the checksums of {len(summed)} files"
    return _report(CATALOGUE[name], train, test, str(root), verified)


def _check_folder(root: Path | None) -> str:
    if root is None:
        raise DataError("imagefolder needs a folder: root=FOLDER")
    train, test, classes, remarks = read_folder(root)
    shape = "x".join(map(str, train.pixels.shape[1:]))
    return (
        f"imagefolder in {root}: {len(classes)} classes, {len(train.labels):,} + "
        f"{len(test.labels):,} images read as {shape}: every file decodes"
        + (f"; {remarks}" if remarks else "")
    )


def _report(entry: Entry, train: Raw, test: Raw, location: str, verified: str) -> str:
    for raw, expected, what in ((train, entry.n_train, "training"), (test, entry.n_test, "test")):
        shape, fault = tuple(raw.pixels.shape[1:]), None
        if len(raw.labels) != expected or shape != entry.shape:
            fault = (
                f"{len(raw.labels)} {what} images of shape {shape}, not {expected} of {entry.shape}"
            )
        elif len(raw.labels.unique()) != len(entry.classes):
            fault = f"no {what} images of some classes"
        if fault:
            raise DataError(
                f"{entry.name} in {location} has {fault}: delete it and run "
                f"`hypergrad data download {entry.name}`"
            )
    shape = "x".join(map(str, entry.shape))
    return (
        f"{entry.name} in {location}: {entry.n_train:,} + {entry.n_test:,} images of {shape}: "
        f"{verified} are right"
    )
