"""Settings of `hypergrad improve`."""

from dataclasses import dataclass
from typing import Annotated

from hypergrad.config.checks import at_least, at_most, between, not_negative, one_of, positive

__all__ = ["ImproveConfig"]

Count = Annotated[int, at_least(1), at_most(10_000)]
Positive = Annotated[float, positive]


@dataclass
class ImproveConfig:
    """How a schedule is improved: see `hypergrad.ImproveOptions`.

    `shape`, `warmup` are of the base's rates; of plain SGD, the base is the group `baseline`, and
    `shape` is its `schedule`. `validation_fraction` is the share of the training set that every
    training but those of the judgement holds out; these train on all of it, and are tested.
    """

    shape: Annotated[str, one_of("cosine", "constant", "multistep")]
    warmup: Annotated[float, between(0, 1)]
    validation_fraction: Annotated[float, between(0, 1, "()")]
    direction: Annotated[str, one_of("hypergradients", "random")]
    scales: list[Positive]
    rung: Count
    iterations: Annotated[int, at_least(0), at_most(10_000)]
    trajectories: Annotated[int, at_least(2), at_most(10_000)]
    repeats: Count
    margins: list[Positive]
    steps: list[Positive]
    radius: Positive
    gate: list[Annotated[float, not_negative]]
    memory: Annotated[float, between(0, 1, "[]")]
    final: Count
    final_margins: list[Positive]
    choose: Annotated[str, one_of("mean", "worst")]
    judged: Annotated[int, at_least(0), at_most(10_000)]
    cap: float | None
