"""What a plan asks for, and what it is told: trainings and their outcomes."""

import math
from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeVar

from hypergrad.core.budget import Spent
from hypergrad.core.move_space import Candidate

__all__ = ["STAGES", "Asking", "Key", "Outcome", "Training", "capped"]

STAGES = ("ladder", "direction", "search", "confirm", "judge")


class Key(NamedTuple):
    """Everything random in a training: initial weights, order of the data, split.

    Keys of different stages have nothing in common: what chose a schedule never judges it.

    Attributes:
        stage: One of `STAGES`.
        number: From 0; trainings with the same key differ in nothing but their values.
    """

    stage: str
    number: int


class Training(NamedTuple):
    """One training.

    Attributes:
        key: What is random in it.
        candidate: Its values.
        margin: Multiplies its rates.
        differentiate: Whether the hypergradients are wanted.
        iteration: From 1; 0 outside the iterations.
        name: Of the candidate, for people.
    """

    key: Key
    candidate: Candidate
    margin: float = 1.0
    differentiate: bool = False
    iteration: int = 0
    name: str = ""

    @property
    def trained(self) -> Candidate:
        """The candidate with the margin in its factor."""
        return self.candidate._replace(factor=self.candidate.factor * self.margin)


class Outcome(NamedTuple):
    """What a training came to.

    Attributes:
        loss: Validation loss at its end; infinite if it diverged.
        accuracy: The metric there; NaN if there is none.
        diverged: Whether its weights did not stay finite.
        spent: What it cost.
        hypergradients: By the coordinates; None where they are not wanted, or not finite.
    """

    loss: float
    accuracy: float
    diverged: bool
    spent: Spent
    hypergradients: tuple[float, ...] | None = None


T = TypeVar("T")
Asking = Generator[tuple[Training, ...], Sequence[Outcome], T]


def capped(loss: float, cap: float) -> float:
    """Return a loss, or the cap for one that is above it or no number."""
    return min(loss, cap) if math.isfinite(loss) else cap
