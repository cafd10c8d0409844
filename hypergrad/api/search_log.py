"""What a search writes through: nothing, unless it is handed a log that does."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from hypergrad.core.schedule import Value
from hypergrad.training.outer_loop import OuterStep

__all__ = ["InnerRow", "SearchAbout", "SearchLog"]


class SearchAbout(NamedTuple):
    """What a log is told before the first outer step.

    Attributes:
        network: Name of the module's class.
        parameters: `D`.
        device: Where it computes.
        hyperparameters: Names of all that the optimiser or the loss is given, in order.
        outer_steps: At most.
        epochs: The horizon.
    """

    network: str
    parameters: int
    device: str
    hyperparameters: tuple[str, ...]
    outer_steps: int
    epochs: int


class InnerRow(NamedTuple):
    """How an inner run stands when it is looked at.

    Attributes:
        outer_step: Whose run it is, from 0.
        epoch: Epochs completed.
        step: Inner steps taken.
        train_loss: Mean since the last look.
        train_accuracy: Likewise, in [0, 1]; the metric, where it is another.
        validation_loss: Now.
        validation_accuracy: Now.
        values: What the last step used, by name.
        seconds: Computing time of the run so far.
    """

    outer_step: int
    epoch: float
    step: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    values: Mapping[str, Value]
    seconds: float


class SearchLog:
    """A log that keeps nothing; derive from it, and override what you want to hear of.

    What a method raises breaks the search off where it is: its history stays, and the next `next`
    goes on from there.

    Attributes:
        rows_per_epoch: How often it is told how an inner run stands; 0: never. Each look evaluates
            the validation data once.
        checkpoint_seconds: How long an inner run goes on between two checkpoints.
    """

    rows_per_epoch: int = 0
    checkpoint_seconds: float = math.inf

    def begin(self, about: SearchAbout) -> None:
        """A search begins, or goes on."""

    def row(self, row: InnerRow) -> None:
        """An inner run was looked at."""

    def step(self, step: OuterStep, best: OuterStep | None) -> None:
        """An outer step was taken; `best` is the best so far, None if none stayed finite."""

    def checkpoint(self, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None:
        """Keep where the search is: between two outer steps, when broken off, and in between.

        Args:
            tensors: By name.
            state: What fits JSON.
        """

    def latest(self) -> tuple[Mapping[str, Tensor], Mapping] | None:
        """Return the newest checkpoint that was kept, as `checkpoint` was given it, or None."""
        return None

    def broken_off(self, error: BaseException) -> None:
        """Something broke an outer step off: Ctrl-C, or an error of the log or the module."""

    def close(self) -> None:
        """Let go of what is held: the search does not go on, or not from here."""

    def end(self, reason: str) -> None:
        """The search has ended; empty if all outer steps were taken."""
