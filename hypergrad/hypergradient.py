"""What forward and reverse mode share: their result, its averages, and how far to trust it."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.curvature import gradient
from hypergrad.flat import FlatModel
from hypergrad.schedule import Schedule, Window, windows
from hypergrad.sgd import InnerState

__all__ = [
    "Hypergradients",
    "Trust",
    "contributing_steps",
    "signal_to_noise",
    "skipped",
    "validation_batch",
    "validation_gradient",
    "validation_gradients",
]

Batch = tuple[Tensor, Tensor]


class Trust(NamedTuple):
    """How far to trust one hypergradient.

    Attributes:
        signal_to_noise: Magnitude of its mean over its standard deviation, over validation batches;
            the mean of `B` batches is `sqrt(B)` times better. None if fewer than two were seen.
        clipped_gradients: Share of the entries of the training gradients that `c_g` touched.
        clipped_products: Share of the entries of its own Hessian products that `c_HZ` touched;
            None if it had no product.
        not_finite: How many numbers behind it are NaN or infinite: entries of its tangent (forward
            mode), steps of its window (reverse mode).
        not_finite_step: The 0-based inner step where that began: on the way there in forward mode,
            on the way back in reverse mode. None if all are finite.
    """

    signal_to_noise: float | None
    clipped_gradients: float
    clipped_products: float | None
    not_finite: int
    not_finite_step: int | None


class Hypergradients(NamedTuple):
    """What one inner run says about its schedule.

    Attributes:
        values: One a hyperparameter, averaged over the steps that contributed, in the order of
            `Schedule.columns`.
        contributing: How many steps that was.
        state: Where the inner run ended.
        trust: How far to trust each.
    """

    values: tuple[float, ...]
    contributing: tuple[int, ...]
    state: InnerState
    trust: tuple[Trust, ...]

    def complaints(self, schedule: Schedule) -> list[str]:
        """Name every value whose hypergradient is not a finite number, and where that began.

        Args:
            schedule: The schedule they belong to.

        Returns:
            One line a value, in the order of `Schedule.columns`.
        """
        return [
            f"the hypergradient of {kind}[{index}] is {h}"
            + ("" if seen.not_finite_step is None else f" from inner step {seen.not_finite_step}")
            for (kind, index, _), h, seen in zip(
                schedule.columns(), self.values, self.trust, strict=True
            )
            if not math.isfinite(h)
        ]


def contributing_steps(
    counts: Sequence[int], horizon: int, truncation: float = 0.0
) -> tuple[int, ...]:
    """Return how many steps contribute to each value's hypergradient.

    Args:
        counts: Values of each kind, (N_alpha, N_beta, N_mu).
        horizon: `T`, inner steps.
        truncation: `tau` in [0, 1).

    Returns:
        One count a value, in the order of `Schedule.columns`; at least 1 each.

    Raises:
        ValueError: If a kind has more values than there are steps.
    """
    return tuple(
        window.stop - window.start - skipped(window, truncation)
        for count in counts
        for window in windows(count, horizon)
    )


def skipped(window: Window, truncation: float) -> int:
    """Return how many steps at the start of a window truncation leaves out."""
    # The margin keeps 0.29 of 100 steps, 28.999999999999996 in floating point, at 29.
    return int(truncation * (window.stop - window.start) + 1e-9)


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
        batches: (inputs, labels) pairs.
        buffers: As for `FlatModel.loss`.

    Yields:
        Number of examples, and the `(D,)` gradient of their mean loss.
    """
    for x, y in batches:
        yield len(y), gradient(lambda point, x=x, y=y: model.loss(point, x, y, buffers), theta)


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
        batches: (inputs, labels) pairs.
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


def signal_to_noise(samples: Tensor, batches: Sequence[int] = ()) -> list[float | None]:
    """Return the signal-to-noise ratio of each hypergradient over validation batches.

    Args:
        samples: `(K, N)`, hypergradients from `K` disjoint parts of the validation data.
        batches: Validation batches in each part, one each unless given. The noise is stated for
            one batch: `sum_k b_k (h_k - h)^2 / (K - 1)`, `h` the mean over all batches.

    Returns:
        `N` ratios; None where there is no noise to compare with, or anything is not finite.

    >>> signal_to_noise(torch.tensor([[1.0, 2.0], [3.0, 2.0]], dtype=torch.float64))
    [1.414213562373095, None]
    """
    if len(samples) < 2:
        return [None] * samples.shape[1]
    weights = samples.new_tensor(batches or [1] * len(samples))[:, None]
    mean = (weights * samples).sum(dim=0) / weights.sum()
    noise = ((weights * (samples - mean) ** 2).sum(dim=0) / (len(samples) - 1)).sqrt()
    dust = 4 * torch.finfo(samples.dtype).eps * mean.abs()  # what equal samples differ by
    known = noise.isfinite() & (noise > dust)
    ratios = (mean.abs() / noise).tolist()
    return [ratio if sure else None for ratio, sure in zip(ratios, known.tolist(), strict=True)]
