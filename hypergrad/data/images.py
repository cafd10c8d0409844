"""Labelled images as tensors on one device, and a training and a test set of them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hypergrad.data.content_hash import content_hash

__all__ = ["Dataset", "Images"]


@dataclass(frozen=True, eq=False)
class Images:
    """Images and their labels, on one device.

    Args:
        images: `(n, ...)`, floating point, standardised; `(n, c, h, w)` for images proper.
        labels: `(n,)`, int64, from 0 to the number of classes less one.

    Raises:
        ValueError: If the shapes do not belong together or the labels are not int64.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.ndim < 2 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"images of shape {tuple(self.images.shape)} and labels of shape "
                f"{tuple(self.labels.shape)} do not belong together: give (n, c, h, w) "
                "or any other (n, ...), and (n,)"
            )
        if self.labels.dtype != torch.int64:
            raise ValueError(f"labels are {self.labels.dtype}: convert them with labels.long()")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def chance(self) -> float:
        """The accuracy of always naming the commonest class."""
        return self.labels.bincount().max().item() / len(self)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Images":
        """Return the same images on another device and in another floating-point type.

        Args:
            device: Where to; `None` leaves them where they are.
            dtype: The images' type; `None` leaves it. Labels stay int64.

        Returns:
            A copy, or views of the same memory where nothing changes.
        """
        return Images(self.images.to(device=device, dtype=dtype), self.labels.to(device=device))

    def take(self, indices: Tensor) -> "Images":
        """Return the images at `indices`, in that order.

        Args:
            indices: `(m,)`, int64, on any device.

        Returns:
            A copy of `m` images with their labels.
        """
        index = indices.to(self.labels.device)
        return Images(self.images[index], self.labels[index])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test set of one kind of image.

    Args:
        name: The name it was loaded by.
        train: The training set; validation images are split off it later.
        test: The test set.
        classes: The classes' names, in the order of the labels.
        origin: A name for the stored pixels and labels that the set was made from, if there are
            any: its fingerprint then, whatever device and precision it is moved to.

    >>> images = Images(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))
    >>> Dataset("zeros", images, images, ("zero",)).shape
    (1, 8, 8)
    """

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    origin: str | None = None

    @cached_property
    def fingerprint(self) -> str:
        """A name for the content: other pixels, labels or order have another one.

        Of a set that was loaded, of the pixels as they were stored, so that the device, the
        precision and the rounding of another machine do not change it; of any other, of its tensors
        as they are. Computed once.
        """
        if self.origin is not None:
            return self.origin
        halves = self.train, self.test
        return content_hash(*(part for half in halves for part in (half.images, half.labels)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape `(c, h, w)` of one image."""
        _, c, h, w = self.train.images.shape
        return c, h, w

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Dataset":
        """Return the same sets on another device and in another floating-point type.

        Args:
            device: As for `Images.to`.
            dtype: As for `Images.to`.

        Returns:
            A data set of the same name, classes and origin.
        """
        train, test = self.train.to(device, dtype), self.test.to(device, dtype)
        return Dataset(self.name, train, test, self.classes, self.origin)
