"""Random images in the shape of a data set: as much work as the real ones, and no download."""

import torch

from hypergrad.core.seeding import generator
from hypergrad.data import Dataset, Images
from hypergrad.data.catalogue import CATALOGUE

__all__ = ["stand_in"]


def stand_in(name: str, train: int | None = None, test: int | None = None) -> Dataset:
    """Return random images, with labels in turn.

    Args:
        name: Of a data set in the catalogue, for shape, sizes and classes.
        train: Training images, if not as many as there really are.
        test: Test images, likewise.

    Returns:
        The images, float32, on the CPU.
    """
    entry = CATALOGUE[name]

    def images(split: str, count: int) -> Images:
        stream = generator("stand-in", name, split)
        pixels = torch.randn(count, *entry.shape, generator=stream)
        return Images(pixels, torch.arange(count) % len(entry.classes))

    return Dataset(
        name,
        images("train", train or entry.n_train),
        images("test", test or entry.n_test),
        entry.classes,
    )
