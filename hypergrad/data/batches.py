"""Batches of images that already lie on the device: a pure function of a key and an index."""

from collections.abc import Iterator

import torch

from hypergrad.core.functional_model import Batch
from hypergrad.core.seeding import generator
from hypergrad.data.augment import Augmentation
from hypergrad.data.images import Images

__all__ = ["EVALUATION_BATCH", "Epoch", "Minibatches", "in_batches", "in_even_batches"]

EVALUATION_BATCH = 1000  # examples at a time where nothing is differentiated


class Epoch:
    """One pass over a set of images, in batches of one size.

    The order of the images and their augmentation are drawn once, from streams named by `key`.
    Batch `i` can therefore be had at any time, and is the same whatever was asked for before.

    Args:
        data: The images, on the device where the batches are wanted.
        batch_size: Images in a batch. The last, incomplete batch is dropped.
        key: What the epoch is, for example `(seed, "train", outer_step, epoch)`.
        shuffle: Whether to draw a random order; otherwise the images' own.
        augment: Random crop and flip; `None` leaves the images as they are.

    Raises:
        ValueError: If there is not one full batch.

    >>> data = Images(torch.zeros(10, 1, 8, 8), torch.arange(10))
    >>> epoch = Epoch(data, 4, key=(0, "train", 0, 0))
    >>> len(epoch), len(epoch[1][1])
    (2, 4)
    """

    def __init__(
        self,
        data: Images,
        batch_size: int,
        *,
        key: tuple[int | str, ...],
        shuffle: bool = True,
        augment: Augmentation | None = None,
    ) -> None:
        n = len(data)
        if not 1 <= batch_size <= n:
            raise ValueError(
                f"batch size {batch_size} does not fit {n} images: choose one from 1 to {n}"
                if n
                else "there are no images to make batches of: use a larger set"
            )
        self._data = data
        self._batch_size = batch_size
        device = data.images.device
        stream = generator(*key, "shuffle")
        order = torch.randperm(n, generator=stream) if shuffle else torch.arange(n)
        self._order = order.to(device)
        self._augment = augment
        self._draws = None
        if augment is not None:
            self._draws = augment.draw(n, generator(*key, "augment")).to(device)

    def __len__(self) -> int:
        return len(self._data) // self._batch_size

    def __getitem__(self, i: int) -> Batch:
        if not 0 <= i < len(self):
            raise IndexError(f"batch {i} of an epoch of {len(self)} batches")
        index = self._order[i * self._batch_size : (i + 1) * self._batch_size]
        images = self._data.images[index]
        if self._augment is not None and self._draws is not None:
            images = self._augment(images, self._draws.take(index))
        return images, self._data.labels[index]

    def __iter__(self) -> Iterator[Batch]:
        return (self[i] for i in range(len(self)))


def in_batches(data: Images, batch_size: int) -> Iterator[Batch]:
    """Go through all images in order, for evaluation.

    Args:
        data: The images.
        batch_size: Images in a batch; the last batch may be shorter.

    Returns:
        An iterator over images and labels: views, not copies.

    Raises:
        ValueError: If the batch size is below 1.

    >>> data = Images(torch.zeros(10, 1, 8, 8), torch.arange(10))
    >>> [len(y) for x, y in in_batches(data, 4)]
    [4, 4, 2]
    """
    if batch_size < 1:
        raise ValueError(f"batch size {batch_size} is below 1: choose at least 1")
    return zip(data.images.split(batch_size), data.labels.split(batch_size), strict=True)


def in_even_batches(data: Images, largest: int) -> Iterator[Batch]:
    """Go through all images in order, in batches of nearly one size, for batch statistics.

    Args:
        data: The images.
        largest: Images in a batch at most.

    Returns:
        An iterator over images and labels: as few batches as possible, no small last one.

    >>> data = Images(torch.zeros(9, 1, 8, 8), torch.arange(9))
    >>> [len(y) for x, y in in_even_batches(data, 4)]
    [3, 3, 3]
    """
    count = -(-len(data) // largest)
    return zip(data.images.tensor_split(count), data.labels.tensor_split(count), strict=True)


class Minibatches:
    """The minibatch of any inner step, in random access.

    Args:
        data: Training images, on the compute device.
        batch_size: Images in a minibatch; at most all of them.
        key: Names the stream; epoch `e` is shuffled by `(*key, e)`.
        augment: Random crop and flip, or None.
    """

    def __init__(
        self,
        data: Images,
        batch_size: int,
        key: tuple[int | str, ...],
        augment: Augmentation | None = None,
    ) -> None:
        self._data = data
        self._batch_size = batch_size
        self._key = key
        self._augment = augment
        self._number, self._epoch = 0, self._make(0)

    @property
    def steps_per_epoch(self) -> int:
        """Full minibatches in an epoch; the incomplete one is dropped."""
        return len(self._epoch)

    def at(self, step: int) -> Batch:
        """Return the (images, labels) of 0-based inner step `step`."""
        number, index = divmod(step, self.steps_per_epoch)
        if number != self._number:
            self._number, self._epoch = number, self._make(number)
        return self._epoch[index]

    def _make(self, number: int) -> Epoch:
        key = (*self._key, number)
        return Epoch(self._data, self._batch_size, key=key, augment=self._augment)
