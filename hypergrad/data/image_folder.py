"""A user's own images: `{train,test}/<class>/<image>` in a folder."""

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch

from hypergrad.core.seeding import generator
from hypergrad.data.catalogue import DataError
from hypergrad.data.decode import decode
from hypergrad.data.splits import balanced_subset
from hypergrad.data.standardise import Raw

__all__ = ["FolderSets", "read_folder"]

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_LAYOUT = "it must hold train/<class>/<image> and test/<class>/<image>"


class FolderSets(NamedTuple):
    """The images of a folder, decoded.

    Attributes:
        train: Training set.
        test: Test set.
        classes: Their names, in the order of the labels.
        remarks: What was passed over, and what was not read as it is stored, by kind and count; a
            line, empty if there is nothing to say.
    """

    train: Raw
    test: Raw
    classes: tuple[str, ...]
    remarks: str


def read_folder(
    path: Path,
    *,
    train_size: int | None = None,
    test_size: int | None = None,
    image_size: int | None = None,
    seed: int = 0,
) -> FolderSets:
    """Read images of any kind that Pillow opens, as RGB of one size.

    Classes are numbered in alphabetical order, as torchvision's `ImageFolder` does. The images of
    a whole set come in a fixed random order, those of a subset with the classes taking turns: a
    run of consecutive images never holds one class only, as the folders' order would.

    Files of other kinds, folders within a class and whatever else lies about are passed over and
    named in the remarks; what is hidden (`.DS_Store`) is passed over in silence.

    Args:
        path: The folder.
        train_size: As for `load`; only the chosen files are decoded.
        test_size: As `train_size`.
        image_size: Height and width in pixels; `None` keeps the size that all chosen images share,
            or takes 32 if they differ.
        seed: Which subset.

    Returns:
        Training and test set, the classes' names, and remarks on what was passed over.

    Raises:
        DataError: If the folder is not laid out so, or an image cannot be read.
        ValueError: If a size cannot be met.
    """
    path = Path(path).expanduser().resolve()
    classes = _classes(path / "train", path)
    unknown = sorted(set(_classes(path / "test", path)) - set(classes))
    if unknown:
        raise DataError(f"{path}: test/{unknown[0]} has no counterpart in train/: {_LAYOUT}")
    files: list[str] = []
    labels = []
    passed = _besides(path, classes)
    for split, size in (("train", train_size), ("test", test_size)):
        found, found_labels = _list_images(path, split, classes, passed)
        chosen = _choose(found_labels, size, seed, split)
        files += [found[i] for i in chosen.tolist()]
        labels.append(found_labels[chosen])
    pixels, remarks = decode(files, image_size)
    n_train = len(labels[0])
    return FolderSets(
        Raw(pixels[:n_train], labels[0]),
        Raw(pixels[n_train:], labels[1]),
        tuple(classes),
        _in_words(passed, remarks),
    )


def _classes(folder: Path, path: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{path} has no folder {folder.name}/: {_LAYOUT}")
    names = sorted(
        item.name for item in folder.iterdir() if item.is_dir() and not item.name.startswith(".")
    )
    if not names:
        raise DataError(f"{folder} holds no class folders: {_LAYOUT}")
    return names


def _besides(path: Path, classes: list[str]) -> Counter[str]:
    """Count what lies beside the two sets and beside the classes, by kind."""
    passed: Counter[str] = Counter()
    for folder, read in (
        (path, ("train", "test")),
        (path / "train", classes),
        (path / "test", classes),
    ):
        with os.scandir(folder) as entries:
            others = (e for e in entries if e.name not in read and not e.name.startswith("."))
            passed.update(map(_kind, others))
    return passed


def _list_images(
    path: Path, split: str, classes: list[str], passed: Counter[str]
) -> tuple[list[str], torch.Tensor]:
    files: list[str] = []
    counts = []
    for name in classes:
        folder = path / split / name
        # Test folders may lack a class; a class without training images is a mistake.
        found = sorted(_images_in(folder, passed)) if folder.is_dir() else []
        if not found and split == "train":
            raise DataError(f"{folder} holds no images ({', '.join(sorted(_SUFFIXES))}): {_LAYOUT}")
        if not found:
            passed[f"{split}/{name}, which holds no images"] += 1
        files += found
        counts.append(len(found))
    if not files:
        raise DataError(f"{path / split} holds no images: {_LAYOUT}")
    return files, torch.arange(len(classes)).repeat_interleave(torch.tensor(counts))


def _images_in(folder: Path, passed: Counter[str]) -> list[str]:
    """List the images of a class; what else is there is counted in `passed`."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if os.path.splitext(entry.name)[1].lower() in _SUFFIXES and not entry.is_dir():
                if not entry.is_file():  # to open a pipe would be to wait for its writer
                    what = "is a link to nothing" if entry.is_symlink() else "is no file"
                    raise DataError(f"{entry.path} {what}: replace or remove it")
                found.append(entry.path)  # strings, not paths: with 60,000 files it is seconds
            else:
                passed[_kind(entry)] += 1
    return found


def _kind(entry: "os.DirEntry[str]") -> str:
    if entry.is_dir():
        return "folder"
    return os.path.splitext(entry.name)[1].lower() or "without a suffix"


def _choose(labels: torch.Tensor, size: int | None, seed: int, split: str) -> torch.Tensor:
    if size is None:
        return torch.randperm(len(labels), generator=generator("folder", split))
    try:
        return balanced_subset(labels, size, seed)
    except ValueError as error:
        raise ValueError(f"{split}_size={size}: {error}") from error


def _in_words(passed: Counter[str], remarks: Counter[str]) -> str:
    """Return what was passed over and what was done to images, as a line."""
    texts = [f"{count} {what}" for what, count in sorted(remarks.items())]
    if passed:
        kinds = ", ".join(
            f"{count} folder{'s' * (count > 1)}" if kind == "folder" else f"{count} {kind}"
            for kind, count in sorted(passed.items())
        )
        texts.insert(0, f"passed over {kinds}")
    return "; ".join(texts)
