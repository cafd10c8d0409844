"""Schedules: values of the three hyperparameters, each shared over a window of contiguous steps.

Symbols: `alpha` learning rate, `beta` momentum, `mu` weight decay, `N` values of a kind, `T` inner
steps (the horizon). Step `t` (0-based) of `T` uses value `floor(N t / T)` of its kind, so value `i`
is in use from step `ceil(i T / N)` up to, not including, step `ceil((i + 1) T / N)`.
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

__all__ = [
    "KINDS",
    "Schedule",
    "StepValues",
    "Window",
    "contributing_steps",
    "truncated_steps",
    "windows",
]

KINDS = ("learning_rate", "momentum", "weight_decay")


class Window(NamedTuple):
    """Inner steps `start <= t < stop` that share one value."""

    start: int
    stop: int


class StepValues(NamedTuple):
    """What one inner step uses: the three values, and which value of its kind each one is."""

    alpha: float
    beta: float
    mu: float
    indices: tuple[int, int, int]


class _Optimizer(Protocol):
    param_groups: list[dict]


def windows(count: int, horizon: int) -> list[Window]:
    """Return the windows of `count` values over `horizon` inner steps.

    Args:
        count: `N`, values of the kind; at most `horizon`, so that no window is empty. 0 for a kind
            that is not learned, which has no windows.
        horizon: `T`, inner steps.

    Returns:
        `count` windows, contiguous from 0 to `horizon`.

    Raises:
        ValueError: If a window would be empty.

    >>> windows(2, 5)
    [Window(start=0, stop=3), Window(start=3, stop=5)]
    """
    if not 0 <= count <= horizon:
        raise ValueError(
            f"{count} windows do not fit {horizon} inner steps: use at most {horizon} values"
        )
    if count == 0:
        return []
    edges = [-(-i * horizon // count) for i in range(count + 1)]
    return [Window(a, b) for a, b in zip(edges, edges[1:], strict=False)]


@dataclass(frozen=True)
class Schedule:
    """Values of learning rate, momentum and weight decay over the windows of a training run.

    It has no horizon: the same schedule stretches to any number of steps. A kind without values is
    zero throughout, and not learned.

    Attributes:
        learning_rate: `N_alpha` values.
        momentum: `N_beta` values.
        weight_decay: `N_mu` values, per step as in `v <- beta v + g + mu theta`.

    >>> Schedule((0.1, 0.01), (0.9,), (0.0,)).at(5, horizon=10)
    StepValues(alpha=0.01, beta=0.9, mu=0.0, indices=(1, 0, 0))
    """

    learning_rate: tuple[float, ...]
    momentum: tuple[float, ...]
    weight_decay: tuple[float, ...]

    def __post_init__(self) -> None:
        for kind in KINDS:
            values = tuple(float(value) for value in getattr(self, kind))
            object.__setattr__(self, kind, values)
        if not self.learning_rate:
            raise ValueError("learning_rate has no value: give at least one")

    @classmethod
    def zeros(cls, counts: Sequence[int]) -> "Schedule":
        """Return the all-zero schedule with `counts` = (N_alpha, N_beta, N_mu) values."""
        n_alpha, n_beta, n_mu = counts
        return cls((0.0,) * n_alpha, (0.0,) * n_beta, (0.0,) * n_mu)

    @classmethod
    def from_flat(cls, values: Sequence[float], counts: Sequence[int]) -> "Schedule":
        """Return the schedule whose values, kind after kind, are `values`."""
        if len(values) != sum(counts):
            raise ValueError(f"{len(values)} values given for {sum(counts)} hyperparameters")
        kinds, start = [], 0
        for count in counts:
            kinds.append(tuple(values[start : start + count]))
            start += count
        return cls(*kinds)

    @classmethod
    def from_dict(cls, values: Mapping[str, Sequence[float]]) -> "Schedule":
        """Return the schedule in a mapping from kind to values, as `schedule.json` holds it."""
        missing = [kind for kind in KINDS if kind not in values]
        if missing:
            raise ValueError(f"no {', '.join(missing)} among {sorted(values)}: give all of {KINDS}")
        return cls(*(tuple(values[kind]) for kind in KINDS))

    @property
    def counts(self) -> tuple[int, int, int]:
        """(N_alpha, N_beta, N_mu)."""
        return len(self.learning_rate), len(self.momentum), len(self.weight_decay)

    @property
    def flat(self) -> tuple[float, ...]:
        """All values, kind after kind: the order of the columns of Z."""
        return self.learning_rate + self.momentum + self.weight_decay

    def as_dict(self) -> dict[str, list[float]]:
        """Return a mapping from kind to values, ready for JSON."""
        return {kind: list(getattr(self, kind)) for kind in KINDS}

    def at(self, step: int, horizon: int) -> StepValues:
        """Return the values in use at one inner step.

        Args:
            step: `t`, 0-based inner step.
            horizon: `T`, inner steps.

        Returns:
            The values, and the index of each within its kind (0 for a kind without values).

        Raises:
            ValueError: If `step` is outside the horizon.
        """
        if not 0 <= step < horizon:
            raise ValueError(f"step {step} is outside the horizon 0..{horizon - 1}")
        a, b, m = (count * step // horizon for count in self.counts)
        beta = self.momentum[b] if self.momentum else 0.0
        mu = self.weight_decay[m] if self.weight_decay else 0.0
        return StepValues(self.learning_rate[a], beta, mu, indices=(a, b, m))

    def apply(self, optimizer: _Optimizer, step: int, horizon: int) -> None:
        """Set `lr`, `momentum` and `weight_decay` of a `torch.optim.SGD` for one inner step.

        SGD without dampening or Nesterov is the inner optimiser here, so a learned schedule can
        be used in any PyTorch training loop: call this before every `optimizer.step()`.

        Args:
            optimizer: Every parameter group is set.
            step: 0-based step of that loop.
            horizon: Its number of steps; the windows stretch to it.
        """
        values = self.at(step, horizon)
        momentum = values.beta
        if momentum == 0 and any(self.momentum):
            # At exactly zero torch leaves its velocity as it was, stale for a later window.
            momentum = sys.float_info.min
        for group in optimizer.param_groups:
            group["lr"], group["momentum"] = values.alpha, momentum
            group["weight_decay"] = values.mu

    def columns(self) -> Iterator[tuple[str, int, float]]:
        """Yield (kind, index within the kind, value) in the order of the columns of Z."""
        for kind in KINDS:
            for index, value in enumerate(getattr(self, kind)):
                yield kind, index, value

    def with_values(self, kind: str, values: Sequence[float]) -> "Schedule":
        """Return a copy with other values for one kind."""
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}: use one of {KINDS}")
        return replace(self, **{kind: tuple(values)})

    def is_finite(self) -> bool:
        """Whether every value is a finite number."""
        return all(math.isfinite(value) for value in self.flat)


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
        window.stop - window.start - truncated_steps(window, truncation)
        for count in counts
        for window in windows(count, horizon)
    )


def truncated_steps(window: Window, truncation: float) -> int:
    """Return how many steps at the start of a window truncation leaves out."""
    # The margin keeps 0.29 of 100 steps, 28.999999999999996 in floating point, at 29.
    return int(truncation * (window.stop - window.start) + 1e-9)
