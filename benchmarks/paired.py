"""Paired comparisons by seed: intervals, tests of difference and equivalence, Holm's correction."""

import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

from scipy import stats

__all__ = ["Paired", "holm", "paired"]


class Paired(NamedTuple):
    """Differences of pairs.

    Attributes:
        mean: Of the differences.
        error: Standard error of it; zero where all are equal.
        n: Pairs.
    """

    mean: float
    error: float
    n: int

    def half(self, level: float = 0.95) -> float:
        """Return half the width of the t-interval."""
        return float(stats.t.ppf((1 + level) / 2, self.n - 1)) * self.error

    def above(self, bound: float = 0.0) -> float:
        """Return p, one-sided, for a true mean of `bound` or less."""
        if self.error == 0:
            return 0.0 if self.mean > bound else 1.0
        return float(stats.t.sf((self.mean - bound) / self.error, self.n - 1))

    def below(self, bound: float = 0.0) -> float:
        """Return p, one-sided, for a true mean of `bound` or more."""
        return Paired(-self.mean, self.error, self.n).above(-bound)

    def different(self) -> float:
        """Return p, two-sided, for a true mean of zero; 1 where all differences are zero."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return min(1.0, 2 * min(self.above(), self.below()))

    def equivalent(self, margin: float) -> float:
        """Return p for a true mean at least `margin` from zero, by two one-sided tests."""
        return max(self.above(-margin), self.below(margin))

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ± {self.half():.2f}".replace("-", "−")


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Paired:
    """Return the differences of two sequences, pair by pair.

    Raises:
        ValueError: For sequences of different lengths, or fewer than two pairs.
    """
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    if len(gaps) < 2:
        raise ValueError(f"{len(gaps)} pairs: give two or more")
    return Paired(mean(gaps), stdev(gaps) / math.sqrt(len(gaps)), len(gaps))


def holm(p: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, step down (Holm, 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p)), key=lambda index: p[index])
    corrected, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return corrected
