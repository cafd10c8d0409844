"""A user's own images: `{train,test}/<class>/<image>` in a folder."""

import os
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
    """The images of a folder, decoded."""

    train: Raw
    test: Raw
    classes: tuple[str, ...]


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

    Args:
        path: The folder.
        train_size: As for `load`; only the chosen files are decoded.
        test_size: As `train_size`.
        image_size: Height and width in pixels; `None` keeps the size that all chosen images share,
            or takes 32 if they differ.
        seed: Which subset.

    Returns:
        Training and test set and the classes' names.

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
    for split, size in (("train", train_size), ("test", test_size)):
        found, found_labels = _list_images(path, split, classes)
        chosen = _choose(found_labels, size, seed, split)
        files += [found[i] for i in chosen.tolist()]
        labels.append(found_labels[chosen])
    pixels = decode(files, image_size)
    n_train = len(labels[0])
    return FolderSets(
        Raw(pixels[:n_train], labels[0]), Raw(pixels[n_train:], labels[1]), tuple(classes)
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


def _list_images(path: Path, split: str, classes: list[str]) -> tuple[list[str], torch.Tensor]:
    files: list[str] = []
    counts = []
    for name in classes:
        folder = path / split / name
        # Test folders may lack a class; a class without training images is a mistake.
        found = sorted(_images_in(folder)) if folder.is_dir() else []
        if not found and split == "train":
            raise DataError(f"{folder} holds no images ({', '.join(sorted(_SUFFIXES))}): {_LAYOUT}")
        files += found
        counts.append(len(found))
    if not files:
        raise DataError(f"{path / split} holds no images: {_LAYOUT}")
    return files, torch.arange(len(classes)).repeat_interleave(torch.tensor(counts))


def _images_in(folder: Path) -> list[str]:
    # Strings, not paths: with 60,000 files the difference is seconds.
    return [
        os.path.join(folder, name)
        for name in os.listdir(folder)
        if os.path.splitext(name)[1].lower() in _SUFFIXES and not name.startswith(".")
    ]


def _choose(labels: torch.Tensor, size: int | None, seed: int, split: str) -> torch.Tensor:
    if size is None:
        return torch.randperm(len(labels), generator=generator("folder", split))
    try:
        return balanced_subset(labels, size, seed)
    except ValueError as error:
        raise ValueError(f"{split}_size={size}: {error}") from error
