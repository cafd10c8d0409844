"""A mean of paired differences, and how well it is known."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Interval", "interval", "quantile"]


class Interval(NamedTuple):
    """A mean, and the half width of its 95 % t-interval; NaN where that is not known."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:+.4g} ± {self.half:.2g}"


def interval(differences: Sequence[float]) -> Interval:
    """Return the mean of differences with its 95 % t-interval.

    >>> [round(each, 3) for each in interval([1.0, 2.0, 3.0])]
    [2.0, 2.484]
    """
    n = len(differences)
    if not all(map(math.isfinite, differences)):
        return Interval(math.nan, math.nan)
    if n < 2:
        return Interval(differences[0] if n else math.nan, math.nan)
    error = statistics.stdev(differences) / math.sqrt(n)
    return Interval(statistics.mean(differences), quantile(0.975, n - 1) * error)


def quantile(share: float, degrees: int) -> float:
    """Return the quantile of Student's t with so many degrees of freedom."""
    from scipy.stats import t  # here, because it takes a while to import

    return float(t.ppf(share, degrees))
