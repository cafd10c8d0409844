"""Hyperparameters as declarations: what is learned, from where, and how it moves."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from hypergrad.core.basis import Basis, Windows

__all__ = ["SCALES", "Hyperparameter"]

EDGE = 1e-15  # how near to 0 and 1 a logit scale goes
LARGEST = 700.0
SCALES = ("linear", "log", "log1m", "logit")  # log1m: the logarithm of one minus the value


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter: of the optimiser, or of the loss.

    Attributes:
        name: Of its own, as in schedules, files and figures.
        basis: Of its values; a number stands for so many windows.
        start: Its coefficients at the start, or one number for all of them.
        first_move: The first step of the outer optimiser: of the value on a linear scale, of its
            logarithm or logit on the others.
        scale: On which the outer optimiser moves. A coefficient stays above zero on a `log` scale,
            below one on a `log1m` scale (of one minus it), in (0, 1) on a `logit` scale.
        low: Smallest coefficient, or None.
        high: Largest coefficient, or None.
        sets: What it sets: a value of the rule, or one that the loss asks for. Its name unless
            given, which lets several set one value for different parameters.
        where: Maps a parameter's name and the parameter to whether it is set for it; None for all.
        learned: Whether it moves; otherwise it stays at `start`.

    Raises:
        ValueError: For an unknown scale, a start that it or the bounds do not allow, or a `where`
            without a name of its own: what is learned for some parameters alone would otherwise be
            applied to all of them.
    """

    name: str
    basis: Basis | int = 1
    start: float | Sequence[float] = 0.0
    first_move: float = 0.1
    scale: str = "linear"
    low: float | None = None
    high: float | None = None
    sets: str = ""
    where: Callable[[str, nn.Parameter], bool] | None = None
    learned: bool = True

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(f"{self.name}: unknown scale {self.scale!r}: use one of {SCALES}")
        if self.where is not None and self.target == self.name:
            raise ValueError(
                f"{self.name} is for some of the parameters: give it a name of its own, and "
                f"sets={self.name!r}"
            )
        if not (self.first_move > 0 and math.isfinite(self.first_move)):
            raise ValueError(f"{self.name}: first_move={self.first_move}: must be above zero")
        if self.over.count < 1:
            raise ValueError(f"{self.name}: a basis of {self.over.count}: give at least 1")
        try:
            hash(self.over)
        except TypeError as error:
            raise ValueError(f"{self.name}: its basis must be hashable: freeze it") from error
        low, high = self.range
        if low > high:
            raise ValueError(f"{self.name}: low={self.low} is above high={self.high}")
        for value in self.coefficients:
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(
                    f"{self.name}: start={value}: must be a number in [{low:g}, {high:g}] on a "
                    f"{self.scale} scale"
                )

    @property
    def target(self) -> str:
        """The value that it sets."""
        return self.sets or self.name

    @property
    def over(self) -> Basis:
        """Its basis."""
        if isinstance(self.basis, float):
            raise ValueError(f"{self.name}: a basis of {self.basis}: a number of windows is whole")
        return Windows(self.basis) if isinstance(self.basis, int) else self.basis

    @property
    def coefficients(self) -> tuple[float, ...]:
        """Its coefficients at the start.

        Raises:
            ValueError: If `start` has another number of them.
        """
        total = self.over.count * self.over.size
        if not isinstance(self.start, Sequence):
            return (float(self.start),) * total
        if len(self.start) != total:
            raise ValueError(f"{self.name}: {len(self.start)} starting values for {total}")
        return tuple(map(float, self.start))

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest coefficient: what the bounds and the scale allow."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if self.scale == "log":
            return max(low, sys.float_info.min), min(high, sys.float_info.max)
        if self.scale == "log1m":
            return low, min(high, 1 - EDGE)
        if self.scale == "logit":
            return max(low, EDGE), min(high, 1 - EDGE)
        return low, high

    def moved(self, value: float, by: float) -> float:
        """Return a coefficient moved on its scale, within its bounds."""
        if self.scale != "linear":
            by = min(max(by, -LARGEST), LARGEST)  # e to the power of more is no number
        if self.scale == "log":
            value = value * math.exp(by)
        elif self.scale == "log1m":  # upwards, as on the other scales
            value = 1 - (1 - value) * math.exp(-by)
        elif self.scale == "logit":
            value = 1 / (1 + (1 / value - 1) * math.exp(-by))
        else:
            value = value + by
        low, high = self.range
        return min(max(value, low), high)

    def distance(self, before: float, after: float) -> float:
        """Return by how much a coefficient has moved on its scale."""
        if self.scale == "log":
            return math.log(after) - math.log(before)
        if self.scale == "log1m":
            return math.log(1 - before) - math.log(1 - after)
        if self.scale == "logit":
            return math.log(after / (1 - after)) - math.log(before / (1 - before))
        return after - before
