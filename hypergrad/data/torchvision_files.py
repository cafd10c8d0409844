"""MNIST, SVHN and CIFAR-10 in the folders and files that torchvision uses."""

import contextlib
import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from hypergrad.data.catalogue import CATALOGUE, DataError
from hypergrad.data.standardise import Raw

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "StoredFile",
    "find_fault",
    "find_foreign",
    "has_checksum",
    "one_line",
    "read_torchvision",
    "stored_files",
]

# torchvision keeps checksums of MNIST's archives only, which may be gone once they are unpacked.
_UNPACKED = {  # by the checksum of the archive, that of the file in it
    "f68b3c2dcbeaaa9fbdd348bbdeb94873": "6bbc9ace898e44ae57da46a324031adb",  # train-images
    "d53e105ee54ea40749a09fcbcd1e9432": "a25bea736e30d166cdddb491f175f624",  # train-labels
    "9fb629c4189551a2d022fa330f9573f3": "2646ac647ad5339dbf082846283269ea",  # t10k-images
    "ec29112dd5afa0611ce80d1b7f02629c": "27ae3e4e09519cfbb04c329615203637",  # t10k-labels
}

_BROKEN = (
    AssertionError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


class StoredFile(NamedTuple):
    """A file of a data set, and its checksum where one is known."""

    path: Path
    md5: str | None


def vision_datasets() -> "ModuleType":
    """Import `torchvision.datasets`.

    Returns:
        The module.

    Raises:
        DataError: If torchvision was built for another torch, as when they were installed apart.
    """
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError, AttributeError) as error:
        raise DataError(
            f"torch {torch.__version__} and the installed torchvision do not work together "
            f"({one_line(error)}): reinstall both in one command, "
            "`pip install --force-reinstall torch torchvision`, or use digits"
        ) from error
    return datasets


def stored_files(name: str, root: Path, *, archives: bool = False) -> list[StoredFile]:
    """List the files that a data set is read from.

    Args:
        name: `mnist`, `svhn` or `cifar10`.
        root: The data root.
        archives: List instead what is downloaded, before anything is unpacked.

    Returns:
        The files, whether they are there or not.
    """
    vision = vision_datasets()
    if name == "mnist":
        folder = root / "MNIST" / "raw"
        packed = [StoredFile(folder / file, md5) for file, md5 in vision.MNIST.resources]
        if archives:
            return packed
        return [StoredFile(f.path.with_suffix(""), _UNPACKED.get(f.md5 or "")) for f in packed]
    if name == "svhn":
        files = [vision.SVHN.split_list[split] for split in ("train", "test")]
        return [StoredFile(root / file, md5) for _, file, md5 in files]
    kind = vision.CIFAR10
    if archives:
        return [StoredFile(root / kind.filename, kind.tgz_md5)]
    files = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    return [StoredFile(root / kind.base_folder / file, md5) for file, md5 in files]


def find_fault(name: str, root: Path, *, checksums: bool) -> StoredFile | None:
    """Find the first file that is missing, cut short or altered.

    Args:
        name: As for `stored_files`.
        root: The data root.
        checksums: Whether to read whole files and compare checksums, where they are known.

    Returns:
        The file, or `None` if the set is whole.
    """
    for file in stored_files(name, root):
        try:
            whole = file.path.is_file() and (name != "mnist" or _is_whole_idx(file.path))
            if not whole or (checksums and not has_checksum(file)):
                return file
        except PermissionError:
            return file
    return None


def find_foreign(root: Path) -> StoredFile | None:
    """Find the first file under a name of MNIST's that is whole and not MNIST's.

    torchvision reads MNIST without a look at checksums; the other sets it compares as it reads.

    Args:
        root: The data root.

    Returns:
        The file, or `None` if there is none.
    """
    for file in stored_files("mnist", root):
        with contextlib.suppress(OSError):  # missing or unreadable: as `find_fault` says
            if _is_whole_idx(file.path) and not has_checksum(file):
                return file
    return None


def has_checksum(file: StoredFile) -> bool:
    """Tell whether a file is there and has its checksum, if one is known."""
    from torchvision.datasets.utils import check_integrity

    return check_integrity(file.path, file.md5)


def read_torchvision(name: str, root: Path) -> tuple[Raw, Raw]:
    """Read a data set that is there, with torchvision's own checks.

    Args:
        name: As for `stored_files`.
        root: The data root.

    Returns:
        Training and test set; pixels from 0 to 255.

    Raises:
        DataError: If a file is broken.
    """
    try:
        with warnings.catch_warnings():
            # CIFAR-10's files were pickled by an old NumPy, in a spelling that a new one regrets.
            warnings.simplefilter("ignore")
            train, test = _read(name, root, train=True), _read(name, root, train=False)
        n_classes = len(CATALOGUE[name].classes)
        for pixels, labels in (train, test):
            if len(pixels) != len(labels) or not len(labels):
                raise ValueError(f"{len(pixels)} images with {len(labels)} labels")
            if labels.min() < 0 or labels.max() >= n_classes:
                raise ValueError(f"labels outside 0 to {n_classes - 1}")
    except _BROKEN as error:
        raise DataError(
            f"data set {name} in {root} is broken ({one_line(error)}): "
            f"run `hypergrad data download {name}` to fetch it anew, "
            "or use digits, which needs no download"
        ) from error
    return train, test


def _read(name: str, root: Path, *, train: bool) -> Raw:
    vision = vision_datasets()
    if name == "mnist":
        mnist = vision.MNIST(root, train=train)
        return Raw(mnist.data[:, None], mnist.targets.long())
    if name == "svhn":
        svhn = vision.SVHN(root, split="train" if train else "test")
        pixels = torch.from_numpy(svhn.data).contiguous()
        return Raw(pixels, torch.from_numpy(svhn.labels))
    cifar = vision.CIFAR10(root, train=train)
    pixels = torch.from_numpy(cifar.data).permute(0, 3, 1, 2).contiguous()
    return Raw(pixels, torch.tensor(cifar.targets))


def _is_whole_idx(path: Path) -> bool:
    """Whether an idx file of bytes is as long as its header says."""
    with path.open("rb") as handle:
        magic = handle.read(4)
        if len(magic) < 4:
            return False
        n = 1
        for _ in range(magic[3]):
            n *= int.from_bytes(handle.read(4), "big")
    return path.stat().st_size == 4 + 4 * magic[3] + n


def one_line(error: Exception) -> str:
    """Return what an error says, short and on one line."""
    return " ".join(str(error).split())[:160] or type(error).__name__
