"""What forward and reverse mode share: their result, its averages, and how far to trust it."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.batches import example_count
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import InnerState
from hypergrad.curvature import gradient
from hypergrad.differentiation.diagnostics import HypergradientDiagnostics

__all__ = [
    "Hypergradients",
    "complaints",
    "validation_batch",
    "validation_gradient",
    "validation_gradients",
]


class Hypergradients(NamedTuple):
    """What one inner run says about its schedule.

    Attributes:
        values: One a coefficient, averaged over the steps that contributed, in the order of
            `Schedule.columns`.
        contributing: By what each was divided for that: the steps of a window.
        state: Where the inner run ended.
        diagnostics: How far to trust each.
    """

    values: tuple[float, ...]
    contributing: tuple[float, ...]
    state: InnerState
    diagnostics: tuple[HypergradientDiagnostics, ...]

    def complaints(self, schedule: Schedule) -> list[str]:
        """Name every value whose hypergradient is not a finite number, and where that began.

        Args:
            schedule: The schedule they belong to.

        Returns:
            One line a value, in the order of `Schedule.columns`.
        """
        return complaints(schedule, self.values, self.diagnostics)


def complaints(
    schedule: Schedule, values: Sequence[float], diagnostics: Sequence[HypergradientDiagnostics]
) -> list[str]:
    """Name every value whose hypergradient is not a finite number; see `Hypergradients`.

    Args:
        schedule: The schedule they belong to.
        values: One a coefficient.
        diagnostics: Of each.
    """
    return [
        f"the hypergradient of {kind}[{index}] is {h}"
        + ("" if seen.not_finite_step is None else f" from inner step {seen.not_finite_step}")
        for (kind, index, _), h, seen in zip(schedule.columns(), values, diagnostics, strict=True)
        if not math.isfinite(h)
    ]


def validation_gradients(
    model: FlatModel,
    theta: Tensor,
    batches: Iterable[Batch],
    buffers: dict[str, Tensor] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Yield the gradient of the validation loss batch by batch, with batch statistics.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters.
        batches: Of validation data.
        buffers: As for `FlatModel.loss`.

    Yields:
        Number of examples, and the `(D,)` gradient of their mean loss.
    """
    for batch in batches:
        loss = partial(model.validation_loss, batch=batch, buffers=buffers)
        yield example_count(batch), gradient(loss, theta)


def validation_gradient(
    model: FlatModel,
    theta: Tensor,
    batches: Iterable[Batch],
    buffers: dict[str, Tensor] | None = None,
) -> Tensor:
    """Return the gradient of the mean validation loss, with batch statistics in every batch.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters.
        batches: Of validation data.
        buffers: As for `FlatModel.loss`.

    Returns:
        `(D,)` mean over all examples of the batches.
    """
    total, count = torch.zeros_like(theta), 0
    for size, g in validation_gradients(model, theta, batches, buffers):
        total += size * g
        count += size
    return total / count


def validation_batch(batch_size: int, count: int) -> int:
    """Return how many validation examples make a batch: as in training, but two batches at least.

    Args:
        batch_size: Of the training batches.
        count: Validation examples.

    Returns:
        At least 1.
    """
    return max(1, min(batch_size, count // 2))
