"""Who takes inner runs to their end, and what happens between two steps on the way.

`InnerLoop` is the plain one; those who watch, write down and save derive from it.
"""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from hypergrad.core.functional_model import Batch
from hypergrad.data import EVALUATION_BATCH, Images, in_batches
from hypergrad.differentiation.result import Hypergradients
from hypergrad.training.differentiated_run import ForwardRun, ReverseRun
from hypergrad.training.inner_run import InnerRun, steps
from hypergrad.training.outer_loop import Evaluation

__all__ = ["InnerLoop", "Trainer", "evaluated"]

Validation = Images | Sequence[Batch]


class Trainer(Protocol):
    """Takes the inner runs of an outer loop to their end."""

    def train(self, inner: InnerRun, validation: Validation, /) -> Evaluation:
        """Take a run to its end, or until its weights are lost; return its last evaluation."""
        ...

    def differentiate(
        self, inner: ForwardRun | ReverseRun, batches: Sequence[Batch]
    ) -> Hypergradients:
        """Return the hypergradients of a run at its end."""
        ...

    def repeat(
        self, others: Iterable[ForwardRun | ReverseRun], batches: Sequence[Batch], kept: InnerRun, /
    ) -> list[Hypergradients | None]:
        """Return those of further runs of the same schedule, None for each that diverged.

        They leave no trace but their cost: whoever breaks off goes on from `kept`, at its end.
        """
        ...

    @property
    def seconds(self) -> float:
        """Computing time of the inner run of this outer step so far."""
        ...

    @property
    def at_rest(self) -> bool:
        """Whether the run under way stands between two steps, where a snapshot is of one moment."""
        ...


class InnerLoop:
    """The plain `Trainer`; what derives from it is told of every step and may break off there.

    Attributes:
        rows_per_epoch: How often it looks at a run.
        checkpoint_seconds: How often it saves one.
        at_rest: As `Trainer` has it.
    """

    rows_per_epoch = 1
    checkpoint_seconds = math.inf

    def __init__(self) -> None:
        self.at_rest = False
        self._began = self._saved = time.monotonic()
        self._seen: Evaluation | None = None

    @property
    def seconds(self) -> float:
        """Wall time since the inner run of this outer step began."""
        return time.monotonic() - self._began

    def train(self, inner: InnerRun, validation: Validation | None) -> Evaluation:
        """Take a run to its end, or until its weights are no longer finite numbers.

        Args:
            inner: The run, from wherever it is.
            validation: What is held out, if anything is.

        Returns:
            Its last evaluation.
        """
        self.at_rest, self._seen = False, None
        self.begin(inner)
        self._saved = time.monotonic()
        for is_due in steps(inner, self.rows_per_epoch):
            self.at_rest = True
            self.after_step(inner, others=len(inner.before))
            if is_due:
                self._seen = self.look(inner, validation)
            self._pause(inner)
            self.at_rest = False
        if self._seen is None:
            assert validation is not None
            self._seen = Evaluation(*evaluated(inner, validation))
        return self._seen

    def differentiate(
        self, inner: ForwardRun | ReverseRun, batches: Sequence[Batch]
    ) -> Hypergradients:
        """Return the hypergradients of a run at its end.

        Args:
            inner: The run.
            batches: Of validation data.
        """
        self._saved = time.monotonic()

        def tick(back: int) -> None:
            self.at_rest = True
            self.after_step(inner, back, len(inner.before))
            self._pause(inner)
            self.at_rest = False

        return inner.hypergradients(batches, tick)

    def repeat(
        self, others: Iterable[ForwardRun | ReverseRun], batches: Sequence[Batch], kept: InnerRun
    ) -> list[Hypergradients | None]:
        """Return the hypergradients of further runs of the same schedule.

        Args:
            others: The runs, each begun when it is its turn.
            batches: Of validation data.
            kept: The outer step's own run, at its end: whoever breaks off goes on from there.

        Returns:
            Theirs; None for each that diverged.
        """
        self.at_rest = True
        self.save(kept)
        found: list[Hypergradients | None] = []
        for inner in others:

            def tick(back: int, inner: ForwardRun | ReverseRun = inner) -> None:
                self.after_step(inner, back, others=len(found) + 1)
                self.stop_if_asked()

            for _ in steps(inner):
                tick(0)
            found.append(inner.hypergradients(batches, tick) if inner.came_through() else None)
        self.at_rest = False
        return found

    def _pause(self, inner: InnerRun) -> None:
        try:
            self.stop_if_asked()
        except BaseException:
            self.save(inner)
            raise
        if time.monotonic() - self._saved >= self.checkpoint_seconds:
            self.save(inner)
            self._saved = time.monotonic()

    # What those who derive from it do about it

    def begin(self, inner: InnerRun) -> None:
        """An inner run begins, or goes on."""
        self._began = time.monotonic()

    def after_step(self, inner: InnerRun, back: int = 0, others: int = 0) -> None:
        """A step was taken.

        Args:
            inner: The run that took it.
            back: Steps gone back since its end.
            others: Which further run of the schedule it is, from 1; 0 for its own.
        """

    def look(self, inner: InnerRun, validation: Validation | None) -> Evaluation | None:
        """An evaluation is due; None to leave it at the one that is made at the end."""
        return None

    def stop_if_asked(self) -> None:
        """Raise whatever breaks the run off."""

    def save(self, inner: InnerRun) -> None:
        """Save a run between two steps."""


def evaluated(inner: InnerRun, data: Validation) -> tuple[float, float]:
    """Return loss and accuracy of a run where it is now.

    Args:
        inner: The run.
        data: Images, or batches of anything.
    """
    batches = in_batches(data, EVALUATION_BATCH) if isinstance(data, Images) else data
    return inner.problem.model.evaluate(inner.state.theta, inner.state.buffers, batches)
