"""Smaller sets in which every class keeps its share."""

import torch
from torch import Tensor

from hypergrad.seeding import generator

__all__ = ["balanced_subset"]


def balanced_subset(labels: Tensor, size: int, seed: int) -> Tensor:
    """Choose `size` images so that the classes' counts differ by at most one.

    The images are put in one order for all sizes, the classes taking turns, and the first `size`
    are taken. So the choice of a smaller size is the beginning of that of a larger one. A class
    that runs out is passed over, and only then are the counts further apart.

    Args:
        labels: `(n,)`, integer.
        size: How many images to choose.
        seed: Which of the many balanced choices; the same seed gives the same images everywhere.

    Returns:
        `(size,)`, int64, on the CPU: positions in `labels`, the classes taking turns.

    Raises:
        ValueError: If `size` is larger than the set or below its number of classes.

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    >>> labels[balanced_subset(labels, 4, seed=0)].bincount().tolist()
    [2, 2]
    """
    labels = labels.cpu()
    n = len(labels)
    classes = labels.unique()
    if size > n:
        raise ValueError(f"cannot choose {size} of {n} images: choose at most {n}")
    if size < len(classes):
        raise ValueError(
            f"cannot choose {size} images of {len(classes)} classes: choose at least {len(classes)}"
        )
    # `turn` is an image's place in its class; the first of every class come before the second.
    # Who goes first within a turn is drawn too, or the low classes would always get the odd image.
    turn = torch.empty(n, dtype=torch.int64)
    place = torch.empty(n, dtype=torch.int64)
    first = torch.randperm(len(classes), generator=generator(seed, "subset"))
    for i, label in enumerate(classes.tolist()):
        members = (labels == label).nonzero().squeeze(1)
        stream = generator(seed, "subset", label)
        turn[members] = torch.randperm(len(members), generator=stream)
        place[members] = first[i]
    return (turn * len(classes) + place).argsort()[:size]
