"""Whether one schedule is better than another: paired by key, with an interval."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import t as student

from hypergrad.training.improvement.training import Outcome

__all__ = ["Comparison", "Difference", "clearly_worse", "difference", "mean_loss"]

CONFIDENCE = 0.95
CLEAR = 2.0  # standard errors


class Difference(NamedTuple):
    """A mean difference with its t-interval; NaN where there is none.

    Attributes:
        mean: Of the paired differences.
        low: End of the interval.
        high: Likewise.
        pairs: How many.
    """

    mean: float
    low: float
    high: float
    pairs: int


def difference(later: Sequence[float], before: Sequence[float]) -> Difference:
    """Return the mean of `later - before`, pair by pair, and its 95 % interval.

    Args:
        later: Of as many pairs.
        before: As `later`.

    >>> difference([2.0, 3.0, 4.0], [1.0, 1.0, 1.0])
    Difference(mean=2.0, low=-0.484..., high=4.484..., pairs=3)
    """
    own = [a - b for a, b in zip(later, before, strict=True)]
    own = [each for each in own if math.isfinite(each)]
    if not own:
        return Difference(math.nan, math.nan, math.nan, 0)
    mean = math.fsum(own) / len(own)
    if len(own) < 2:
        return Difference(mean, math.nan, math.nan, 1)
    half = _error(own, mean) * float(student.ppf((1 + CONFIDENCE) / 2, len(own) - 1))
    return Difference(mean, mean - half, mean + half, len(own))


def mean_loss(outcomes: Sequence[Outcome]) -> float:
    """Return the mean of the capped losses."""
    return math.fsum(outcome.capped for outcome in outcomes) / len(outcomes)


def clearly_worse(some: Sequence[Outcome], others: Sequence[Outcome]) -> bool:
    """Say whether a candidate need not be trained any more.

    It collapsed where the other did not, or is worse on every key so far, at least two, by more on
    average than twice the standard error.

    Args:
        some: Its outcomes.
        others: Of the other one, with the same keys.
    """
    pairs = list(zip(some, others, strict=True))
    if any(own.collapsed and not other.collapsed for own, other in pairs):
        return True
    worse = [own.capped - other.capped for own, other in pairs]
    if len(worse) < 2 or min(worse) <= 0:
        return False
    mean = math.fsum(worse) / len(worse)
    return mean > CLEAR * _error(worse, mean)


class Comparison(NamedTuple):
    """Two schedules on keys that chose neither.

    Attributes:
        margins: Factor of the step size, of each pair.
        base: Outcomes of the base schedule.
        end: Of the other one, with the same keys.
    """

    margins: tuple[float, ...]
    base: tuple[Outcome, ...]
    end: tuple[Outcome, ...]

    @property
    def end_is_better(self) -> bool:
        """Whether the other one has the smaller mean capped loss, margins included."""
        return mean_loss(self.end) < mean_loss(self.base)

    @property
    def loss(self) -> Difference:
        """How much larger the capped loss of the other one is, as trained: without a margin."""
        return difference(*(_plain(self.margins, own, "capped") for own in (self.end, self.base)))

    @property
    def accuracy(self) -> Difference:
        """How much larger its accuracy is, without a margin."""
        return difference(*(_plain(self.margins, own, "accuracy") for own in (self.end, self.base)))

    @property
    def collapsed(self) -> tuple[int, int]:
        """How often the base ended no better than untrained, and the other one."""
        return sum(own.collapsed for own in self.base), sum(own.collapsed for own in self.end)


def _plain(margins: Sequence[float], outcomes: Sequence[Outcome], name: str) -> list[float]:
    pairs = zip(margins, outcomes, strict=True)
    return [getattr(outcome, name) for margin, outcome in pairs if margin == 1.0]


def _error(own: Sequence[float], mean: float) -> float:
    """Standard error of a mean."""
    variance = math.fsum((each - mean) ** 2 for each in own) / (len(own) - 1)
    return math.sqrt(variance / len(own))
