"""Pixels as they were stored, and their standardisation."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Moments", "Raw", "moments", "standardised"]


class Raw(NamedTuple):
    """Pixels and labels as a source gives them."""

    pixels: Tensor  # (n, c, h, w) uint8
    labels: Tensor  # (n,) int64


class Moments(NamedTuple):
    """Mean and standard deviation per channel, in the pixels' own units."""

    mean: Tensor  # (c,) float64
    std: Tensor  # (c,) float64


def moments(pixels: Tensor) -> Moments:
    """Measure the mean and standard deviation of every channel.

    They come from the counts of the 256 values, which are exact: neither the order of the images
    nor the number of threads changes the last bit.

    Args:
        pixels: `(n, c, h, w)`, uint8.

    Returns:
        The moments; a channel of one value has the deviation 1, so that it becomes all zeros.

    >>> moments(torch.tensor([0, 2], dtype=torch.uint8).view(2, 1, 1, 1))
    Moments(mean=tensor([1.], dtype=torch.float64), std=tensor([1.], dtype=torch.float64))
    """
    value = torch.arange(256, dtype=torch.float64)
    mean, std = [], []
    for channel in pixels.unbind(1):
        weight = torch.bincount(channel.flatten(), minlength=256).double()
        weight /= weight.sum()
        mean.append(weight @ value)
        variance = weight @ (value - mean[-1]).square()
        std.append(variance.sqrt() if variance > 0 else torch.ones_like(variance))
    return Moments(torch.stack(mean), torch.stack(std))


def standardised(pixels: Tensor, scale: Moments, image_size: int | None) -> Tensor:
    """Standardise every channel and resize to a square.

    Args:
        pixels: `(n, c, h, w)`, uint8.
        scale: What becomes 0 and 1.
        image_size: Height and width in pixels, bilinear; `None` keeps the size.

    Returns:
        `(n, c, image_size, image_size)`, float32.
    """
    mean, std = (moment.float().view(-1, 1, 1) for moment in scale)
    images = pixels.float().sub_(mean).div_(std)
    if image_size is None or images.shape[-2:] == (image_size, image_size):
        return images
    size = (image_size, image_size)
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
