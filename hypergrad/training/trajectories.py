"""What several trajectories of one schedule say together: other weights, order and split each.

    t = m / (s / sqrt(K))

`m` is the mean hypergradient over `K` trajectories, `s` their standard deviation. Over the
validation batches of one trajectory the scatter shows nothing of that.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.budget import Spent
from hypergrad.differentiation.diagnostics import HypergradientDiagnostics
from hypergrad.training.outer_loop import Evaluation

__all__ = [
    "LEAST",
    "Trajectory",
    "diverged",
    "stands_still",
    "t_statistics",
    "together",
]

LEAST = 1.0  # |t| from which a coefficient moves


class Trajectory(NamedTuple):
    """What one trajectory of an outer step came to.

    Attributes:
        seen: Its last evaluation.
        spent: What it cost.
        step: Inner steps taken.
        values: Hypergradients, one a coefficient; None if it diverged.
        diagnostics: How far to trust each; empty if it diverged.
    """

    seen: Evaluation
    spent: Spent
    step: int
    values: tuple[float, ...] | None = None
    diagnostics: tuple[HypergradientDiagnostics, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return it as JSON keeps it; `from_dict` reads it."""
        return {
            **self._asdict(),
            "seen": list(self.seen),
            "spent": self.spent._asdict(),
            "diagnostics": [each._asdict() for each in self.diagnostics],
        }

    @classmethod
    def from_dict(cls, kept: Mapping) -> "Trajectory":
        """Return what `as_dict` gave, read back from JSON."""
        return cls(
            Evaluation(*kept["seen"]),
            Spent(**kept["spent"]),
            kept["step"],
            None if kept["values"] is None else tuple(kept["values"]),
            tuple(HypergradientDiagnostics(**each) for each in kept["diagnostics"]),
        )


def t_statistics(H: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return means of hypergradients, and how far each stands out from its scatter.

    Args:
        H: `(K, N)` float64; a row a trajectory.
        w: `(K, 1)` weights; their effective number, `sum(w)^2 / sum(w^2)`, is above 1.

    Returns:
        `(N,)` means, and `(N,)` values of t; infinite without any scatter, 0 for a mean of zero.
    """
    n = float(w.sum() ** 2 / (w * w).sum())
    m = (w * H).sum(dim=0) / w.sum()
    variance = (w * (H - m) ** 2).sum(dim=0) / w.sum() * n / (n - 1)
    error = (variance / n).sqrt()
    return m, torch.where(error > 0, m / error, torch.where(m == 0, 0.0, m.sign() * math.inf))


def together(trajectories: Sequence[Trajectory]) -> Trajectory:
    """Return several trajectories as one: means, with the t statistic of each hypergradient.

    Args:
        trajectories: Of one schedule; at least two. Those that diverged are left out of the
            hypergradients, unless they are half or more: then all count as one that diverged.

    Returns:
        Its evaluation is the mean of all, so it is not finite where one diverged; its cost is that
        of all; clips and signal-to-noise are means, growth is the largest.
    """
    alive = [each for each in trajectories if each.values is not None]
    spent = Spent()
    for each in trajectories:
        spent = spent.plus(each.spent)
    seen = Evaluation(*(_joined(own, statistics.fmean) for own in _across(trajectories)))
    if 2 * len(alive) <= len(trajectories):
        return Trajectory(seen, spent, min(each.step for each in trajectories))
    H = torch.tensor([each.values for each in alive], dtype=torch.float64)
    m, t = t_statistics(H, torch.ones(len(alive), 1, dtype=torch.float64))
    by_value = zip(*(each.diagnostics for each in alive), strict=True)
    diagnostics = tuple(
        _merged(own)._replace(t_statistic=None if math.isnan(value) else value)
        for own, value in zip(by_value, t.tolist(), strict=True)
    )
    return Trajectory(seen, spent, alive[0].step, tuple(m.tolist()), diagnostics)


def stands_still(diagnostics: Sequence[HypergradientDiagnostics]) -> tuple[bool, ...]:
    """Return which coefficients do not stand out from the scatter; none with one trajectory.

    Args:
        diagnostics: Of each hypergradient.
    """
    return tuple(
        seen.t_statistic is not None and abs(seen.t_statistic) < LEAST for seen in diagnostics
    )


def diverged(trajectories: Sequence[Trajectory]) -> str | None:
    """Say in a line how many of several trajectories diverged; None for none, and for one alone."""
    count, lost = len(trajectories), sum(each.values is None for each in trajectories)
    return f"{lost} of {count} trajectories diverged" if lost and count > 1 else None


def _across(trajectories: Sequence[Trajectory]) -> list[tuple[float | None, ...]]:
    return list(zip(*(each.seen for each in trajectories), strict=True))


def _joined(own: Sequence[float | None], how: Callable[[Sequence[float]], float]) -> float | None:
    """One number of what is known of several; None where nothing is."""
    known = [each for each in own if each is not None]
    return how(known) if known else None


def _merged(own: Sequence[HypergradientDiagnostics]) -> HypergradientDiagnostics:
    """Diagnostics of one hypergradient over trajectories."""
    steps = [each.not_finite_step for each in own if each.not_finite_step is not None]
    return HypergradientDiagnostics(
        _joined([each.signal_to_noise for each in own], statistics.fmean),
        statistics.fmean(each.clipped_gradients for each in own),
        _joined([each.clipped_products for each in own], statistics.fmean),
        sum(each.not_finite for each in own),
        min(steps, default=None),
        _joined([each.growth for each in own], max),
    )
