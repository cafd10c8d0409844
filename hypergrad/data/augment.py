"""Random crop and horizontal flip of a whole batch at once, on its device."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Augmentation", "Draws"]


class Draws(NamedTuple):
    """What was drawn for each image: where its crop begins in the padded image, and its flip."""

    top: Tensor  # (n,) int64, rows
    left: Tensor  # (n,) int64, columns
    flip: Tensor  # (n,) bool

    def to(self, device: torch.device) -> "Draws":
        """Return the same draws on `device`."""
        return Draws(self.top.to(device), self.left.to(device), self.flip.to(device))

    def take(self, index: Tensor) -> "Draws":
        """Return the draws of the images at `index`."""
        return Draws(self.top[index], self.left[index], self.flip[index])


@dataclass(frozen=True)
class Augmentation:
    """Random crop after padding with zeros, and random horizontal flip.

    The images are standardised, so the zeros are the training set's mean colour, not black.

    Args:
        pad: Pixels added on each of the four sides before an image of the old size is cut out.
        flip: Whether to mirror every other image, left to right.

    Raises:
        ValueError: If `pad` is negative.
    """

    pad: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise ValueError(f"pad {self.pad} is negative: choose 0 (no crop) or more pixels")

    def draw(self, n: int, stream: torch.Generator) -> Draws:
        """Draw the crops and flips of `n` images.

        Args:
            n: The number of images.
            stream: A CPU generator.

        Returns:
            The draws, on the CPU.
        """
        corner = torch.randint(0, 2 * self.pad + 1, (2, n), generator=stream)
        flip = torch.rand(n, generator=stream) < (0.5 if self.flip else 0.0)
        return Draws(corner[0], corner[1], flip)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Crop and flip every image as drawn.

        Args:
            images: `(n, c, h, w)`.
            draws: Of the same `n` images, on the same device.

        Returns:
            `(n, c, h, w)`.
        """
        n, c, h, w = images.shape
        device = images.device
        padded = F.pad(images, (self.pad,) * 4)
        row = torch.arange(h, device=device)
        column = torch.arange(w, device=device).expand(n, w)
        column = torch.where(draws.flip[:, None], w - 1 - column, column)
        return padded[
            torch.arange(n, device=device)[:, None, None, None],
            torch.arange(c, device=device)[:, None, None],
            (draws.top[:, None] + row)[:, None, :, None],
            (draws.left[:, None] + column)[:, None, None, :],
        ]
