"""A user's own images, in folders that are laid out as `find_layout` says."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from hypergrad.core.seeding import generator
from hypergrad.data.decode import decode
from hypergrad.data.folder_layout import Files, find_layout
from hypergrad.data.splits import balanced_subset
from hypergrad.data.standardise import Raw

__all__ = ["FolderSets", "read_folder"]


class FolderSets(NamedTuple):
    """The images of a folder, decoded.

    Attributes:
        train: Training set.
        test: Test set.
        classes: Their names, in the order of the labels.
        remarks: Which images are the test set where the folder names none; what was passed over,
            and what was not read as it is stored, by kind and count; a line, empty if there is
            nothing to say.
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
    layout = find_layout(Path(path).expanduser().resolve())
    train = _chosen(layout.train, train_size, seed, "train")
    test = _chosen(layout.test, test_size, seed, "test")
    pixels, done = decode([*train.paths, *test.paths], image_size)
    n_train = len(train.paths)
    return FolderSets(
        Raw(pixels[:n_train], train.labels),
        Raw(pixels[n_train:], test.labels),
        tuple(layout.classes),
        _in_words(layout.said, layout.passed, done),
    )


def _chosen(files: Files, size: int | None, seed: int, split: str) -> Files:
    index = _choose(files.labels, size, seed, split)
    return Files([files.paths[i] for i in index.tolist()], files.labels[index])


def _choose(labels: torch.Tensor, size: int | None, seed: int, split: str) -> torch.Tensor:
    if size is None:
        return torch.randperm(len(labels), generator=generator("folder", split))
    try:
        return balanced_subset(labels, size, seed)
    except ValueError as error:
        raise ValueError(f"{split}_size={size}: {error}") from error


def _in_words(said: Sequence[str], passed: Counter[str], done: Counter[str]) -> str:
    """Return what was made of the folder, passed over and done to images, as a line."""
    texts = list(said)
    if passed:
        kinds = ", ".join(
            f"{count} folder{'s' * (count > 1)}" if kind == "folder" else f"{count} {kind}"
            for kind, count in sorted(passed.items())
        )
        texts.append(f"passed over {kinds}")
    return "; ".join([*texts, *(f"{count} {what}" for what, count in sorted(done.items()))])
