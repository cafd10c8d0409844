"""Which images: the division into training and validation data, and smaller balanced sets."""

import torch
from torch import Tensor

from hypergrad.core.seeding import generator

__all__ = ["balanced_subset", "train_validation_split"]


def train_validation_split(
    n: int, fraction: float, *, seed: int, outer_step: int
) -> tuple[Tensor, Tensor]:
    """Divide `range(n)` at random, afresh for every outer step.

    Args:
        n: The number of training images.
        fraction: The share of them to validate on, above 0 and below 1; rounded to whole images.
        seed: The run's seed.
        outer_step: From 0.

    Returns:
        The images to train on and those to validate on, int64 on the CPU, each in random order:
        disjoint, and together all of `range(n)`.

    Raises:
        ValueError: If the fraction is not between 0 and 1, or leaves either side empty.

    >>> train, validation = train_validation_split(20, 0.05, seed=0, outer_step=0)
    >>> len(train), len(validation)
    (19, 1)
    """
    if not 0 < fraction < 1:
        raise ValueError(f"validation fraction {fraction} is not between 0 and 1: try 0.05")
    held_out = round(n * fraction)
    if not 0 < held_out < n:
        side = "validate" if held_out == 0 else "train"
        raise ValueError(
            f"validation fraction {fraction} of {n} images leaves none to {side} on: "
            "choose a fraction nearer to 0.5 or use more images"
        )
    order = torch.randperm(n, generator=generator(seed, "split", outer_step))
    return order[held_out:], order[:held_out]


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
