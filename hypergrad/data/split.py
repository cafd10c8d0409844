"""The division of the training images into those to train on and those to validate on."""

import torch
from torch import Tensor

from hypergrad.seeding import generator

__all__ = ["train_validation_split"]


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
