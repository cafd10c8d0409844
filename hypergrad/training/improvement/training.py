"""What an improvement asks for, and what comes back."""

import math
from typing import NamedTuple

from hypergrad.core.budget import Spent

__all__ = ["Outcome", "Training"]


class Training(NamedTuple):
    """A training that is asked for.

    Attributes:
        stage: `ladder`, `trajectory`, `line` or `confirmation`.
        iteration: Of the trajectories and line searches, from 0; 0 of the others.
        candidate: Which of those compared in this stage, from 0.
        key: Of its weights, its split and the order of its batches: those with one key differ in
            nothing but their schedule.
        margin: By which the steps of the candidate are scaled.
        values: Coefficients, scaled already.
        differentiated: Whether derivatives are wanted too.
    """

    stage: str
    iteration: int
    candidate: int
    key: int
    margin: float
    values: tuple[float, ...]
    differentiated: bool = False


class Outcome(NamedTuple):
    """What came of it.

    Attributes:
        loss: Validation loss at the end; infinite if training diverged.
        accuracy: Likewise, in [0, 1]; NaN if it diverged, or where there is no metric.
        untrained: Validation loss before the first step.
        derivatives: Of the loss with respect to the coefficients; None where none were wanted, or
            training diverged, or one is not finite.
        spent: What it cost.
    """

    loss: float
    accuracy: float
    untrained: float
    derivatives: tuple[float, ...] | None
    spent: Spent

    @property
    def collapsed(self) -> bool:
        """Whether training ended no better than it began."""
        return not self.loss < self.untrained

    @property
    def capped(self) -> float:
        """The loss, or for one that is worse than before training a quarter more than that was.

        How much worse says nothing: one number stands for all that went wrong.
        """
        cap = self.untrained + abs(self.untrained) / 4
        return min(self.loss, cap) if math.isfinite(self.loss) else cap
