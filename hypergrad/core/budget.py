"""What a search may spend, in whichever unit it is given, and what it has spent so far."""

import math
import re
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Budget", "Spent"]

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_COUNTS = ("trials", "gradients")


class Spent(NamedTuple):
    """What a search has cost.

    Attributes:
        seconds: Computing time of its trainings, added up over the processes that shared them.
        gradients: Gradient evaluations on minibatches, those behind Hessian products not counted.
        products: Hessian products, each with one tangent on one minibatch.
        trials: Trainings: settings tried, restarts, outer steps.
    """

    seconds: float = 0.0
    gradients: int = 0
    products: int = 0
    trials: int = 0

    def plus(self, other: "Spent") -> "Spent":
        """Return both together."""
        return Spent(
            self.seconds + other.seconds,
            self.gradients + other.gradients,
            self.products + other.products,
            self.trials + other.trials,
        )

    def over(self, horizon: float) -> "Spent":
        """Return what the same trainings would cost at `horizon` times their length."""
        return Spent(
            self.seconds * horizon,
            round(self.gradients * horizon),
            round(self.products * horizon),
            self.trials,
        )


@dataclass(frozen=True)
class Budget:
    """An amount that a search may spend.

    Attributes:
        amount: In `unit`.
        unit: `seconds` of computing, `trials`, or `gradients`: gradient evaluations, a Hessian
            product counting as two.
    """

    amount: float
    unit: str
    text: str = field(default="", repr=False, compare=False)  # as it was written

    def __str__(self) -> str:
        return self.text or f"{self.amount:g} {self.unit}"

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read a budget as people write it.

        Args:
            text: `90s`, `30min`, `20h`, `1d`; `100trials`; `2e6gradients`.

        Returns:
            The budget.

        Raises:
            ValueError: If it is none.

        >>> Budget.parse("1.5h")
        Budget(amount=5400.0, unit='seconds')
        """
        found = re.fullmatch(r"\s*([0-9.]+(?:e\d+)?)\s*([a-z]+)\s*", text)
        amount, unit = found.groups() if found else ("", "")
        try:
            value = float(amount) * _SECONDS.get(unit, 1)
        except ValueError:
            value = 0.0
        if not 0 < value < math.inf or (unit not in _SECONDS and unit not in _COUNTS):
            raise ValueError(f"{text!r} is no budget: write 2h, 30min, 100trials or 2e6gradients")
        return cls(value, "seconds" if unit in _SECONDS else unit, text.strip())

    def of(self, spent: Spent) -> float:
        """Return how much of this budget something costs, in its unit."""
        if self.unit == "gradients":
            return spent.gradients + 2.0 * spent.products
        return float(getattr(spent, self.unit))

    def allows(self, spent: Spent, cost: Spent) -> bool:
        """Whether doing something more comes nearer to the budget than stopping does.

        Args:
            spent: So far.
            cost: Of what would be done next.

        Returns:
            False from where the next one would overshoot by more than it falls short now.

        >>> budget = Budget.parse("10trials")
        >>> budget.allows(Spent(trials=9), Spent(trials=1))
        True
        >>> budget.allows(Spent(trials=10), Spent(trials=1))
        False
        """
        return self.of(spent) + self.of(cost) / 2 <= self.amount
