"""Batches made of other batches: several to a step, or with noise beside the inputs."""

from collections.abc import Mapping

import torch
from torch import Tensor

from hypergrad.core.batches import MicroBatches, Nest
from hypergrad.core.seeding import generator
from hypergrad.data.protocols import Batches, Key

__all__ = ["accumulated", "with_noise"]


def accumulated(batches: Batches, count: int) -> Batches:
    """Return batches whose step is `count` consecutive ones: gradient accumulation.

    Args:
        batches: Any batches.
        count: Of them in one step. Those left at an epoch's end are dropped, so that a step's
            are all of one epoch.

    Returns:
        Batches of `MicroBatches`.

    Raises:
        ValueError: If `count` is below 1 or above the batches of an epoch.

    >>> from hypergrad.data.shuffled_batches import TensorBatches
    >>> halves = TensorBatches(torch.arange(6), 2, key=(), shuffle=False)
    >>> accumulated(halves, 2).at(1)
    (tensor([0, 1]), tensor([2, 3]))
    """
    return _Accumulated(batches, count)


def with_noise(batches: Batches, key: Key) -> Batches:
    """Return batches with standard normal noise beside the inputs, for a learned strength of it.

    Args:
        batches: Of `(inputs, labels)`, or of dicts with `inputs`, a floating tensor.
        key: Names the stream; the noise of a step is drawn by `(*key, step)`.

    Returns:
        Batches of `(inputs, labels, noise)`, or of dicts with `noise` too. The noise has the
        inputs' shape, type and device; it is drawn in float32, so that it is the same in float64.

    Raises:
        ValueError: When a batch is asked for that is neither.
    """
    return _Noisy(batches, key)


class _Accumulated:
    def __init__(self, batches: Batches, count: int) -> None:
        if not 1 <= count <= batches.steps_per_epoch:
            raise ValueError(
                f"{count} batches cannot be accumulated in a step: choose from 1 to "
                f"{batches.steps_per_epoch}, the batches of an epoch"
            )
        self._batches, self._count = batches, count

    @property
    def steps_per_epoch(self) -> int:
        return self._batches.steps_per_epoch // self._count

    @property
    def random_access(self) -> bool:
        return getattr(self._batches, "random_access", True)

    def at(self, step: int) -> MicroBatches:
        epoch, i = divmod(step, self.steps_per_epoch)
        first = epoch * self._batches.steps_per_epoch + i * self._count
        return MicroBatches(self._batches.at(first + j) for j in range(self._count))


class _Noisy:
    def __init__(self, batches: Batches, key: Key) -> None:
        self._batches, self._key = batches, key

    @property
    def steps_per_epoch(self) -> int:
        return self._batches.steps_per_epoch

    @property
    def random_access(self) -> bool:
        return getattr(self._batches, "random_access", True)

    def at(self, step: int) -> Nest:
        batch = self._batches.at(step)
        if isinstance(batch, MicroBatches):
            raise ValueError(
                "noise was asked for batches that are accumulated: give accumulated(with_noise("
                "batches, key), count)"
            )
        pair = isinstance(batch, (tuple, list)) and len(batch) == 2
        inputs = batch.get("inputs") if isinstance(batch, Mapping) else batch[0] if pair else None
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            raise ValueError(
                f"noise was asked for a {type(batch).__name__}: give batches of (inputs, labels), "
                "or dicts with inputs, whose inputs are a floating tensor"
            )
        stream = generator(*self._key, step, "noise")
        noise = torch.randn(inputs.shape, generator=stream, dtype=torch.float32).to(inputs)
        return {**batch, "noise": noise} if isinstance(batch, Mapping) else (*batch, noise)
