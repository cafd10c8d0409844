"""How a schedule is improved: how many trainings at each stage, and how far it moves."""

import math
from dataclasses import dataclass

from hypergrad.core.budget import Budget

__all__ = ["DIRECTIONS", "ImproveOptions"]

DIRECTIONS = ("hypergradients", "random")
CHOICES = ("mean", "worst")


@dataclass(frozen=True, kw_only=True)
class ImproveOptions:
    """How a schedule is improved.

    Attributes:
        direction: `hypergradients`, or `random` directions as a control.
        scales: Of the base's rates, rising: the ladder. Empty: none is climbed.
        rung: Trainings of each scale.
        iterations: At most.
        trajectories: `K`, differentiated trainings behind a direction.
        repeats: `R`, trainings of each candidate of a line search.
        margins: By which the rates are multiplied in those, in turn; the harshest first, which
            ends the trainings of a candidate that collapses.
        steps: Candidates of a line search, as shares of the radius.
        radius: Of the first one, in multiples of every coordinate's `first_move`.
        gate: Coordinates with `|t|` below the first stay, and move in full from the second on.
        memory: What the trajectories of an iteration weigh in the next one.
        final: Trainings of each candidate of the confirmation.
        final_margins: As `margins`.
        choose: The candidate with the least `mean`, or the least `worst`, loss.
        judged: Trainings of the base and of what was chosen, on keys that chose nothing.
        cap: What a training with a greater loss, or none, counts as; None: 1.3 times the loss of
            an untrained network.
        budget: Where another iteration would overshoot it, the confirmation begins.
        seed: Of random directions.
    """

    direction: str = "hypergradients"
    scales: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8, 1.6)
    rung: int = 2
    iterations: int = 2
    trajectories: int = 3
    repeats: int = 3
    margins: tuple[float, ...] = (1.3, 1.0, 1.0)
    steps: tuple[float, ...] = (0.5, 1.0)
    radius: float = 1.0
    gate: tuple[float, float] = (1.0, 2.5)
    memory: float = 0.5
    final: int = 4
    final_margins: tuple[float, ...] = (1.3, 1.0)
    choose: str = "mean"
    judged: int = 4
    cap: float | None = None
    budget: Budget | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, words in (("direction", DIRECTIONS), ("choose", CHOICES)):
            if getattr(self, name) not in words:
                raise ValueError(f"{name}={getattr(self, name)!r}: use one of {', '.join(words)}")
        for name, least in (("rung", 1), ("repeats", 1), ("final", 1), ("iterations", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least {least}")
        if self.trajectories < 2:
            raise ValueError(f"trajectories={self.trajectories}: 2 at least tell their scatter")
        if self.judged == 1 or self.judged < 0:
            raise ValueError(f"judged={self.judged}: 2 at least give an interval; 0 gives none")
        for name in ("scales", "margins", "final_margins", "steps"):
            values = getattr(self, name)
            if not all(value > 0 and math.isfinite(value) for value in values):
                raise ValueError(f"{name}={values}: must be above zero")
            if not values and name != "scales":
                raise ValueError(f"{name} is empty: give one at least")
        if list(self.scales) != sorted(set(self.scales)) or len(self.scales) == 1:
            raise ValueError(f"scales={self.scales}: give two or more, rising; or none")
        if not 0 <= self.gate[0] < self.gate[1]:
            raise ValueError(f"gate={self.gate}: the first is below the second, zero or more")
        if not self.radius > 0 or not 0 <= self.memory <= 1:
            raise ValueError(
                f"radius={self.radius}, memory={self.memory}: a radius above zero, a share"
            )
        if self.cap is not None and not math.isfinite(self.cap):
            raise ValueError(f"cap={self.cap}: must be a finite number; None is automatic")
