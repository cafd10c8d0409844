"""The inner runs of a search, watched: a log that is told, a bar, Ctrl-C between two steps."""

import contextlib
import time
from collections.abc import Callable, Iterator

from hypergrad.api.interrupts import Deferred, deferred_interrupts
from hypergrad.api.search_display import SearchDisplay
from hypergrad.api.search_log import InnerRow, SearchLog
from hypergrad.training.inner_loop import InnerLoop, Validation, evaluated
from hypergrad.training.inner_run import InnerRun
from hypergrad.training.outer_loop import Evaluation

__all__ = ["WatchedLoop"]


class WatchedLoop(InnerLoop):
    """Takes the inner runs of a search, tells its log, and saves them on the way.

    Args:
        log: Is told of them.
        display: Shows them, if anything does.
        outer_steps: At most.
        number: Returns the outer step under way.
        keep: Hands the log a checkpoint in the middle of an outer step.

    Attributes:
        spent: Seconds that the run under way has taken so far, idle time left out.
    """

    def __init__(
        self,
        log: SearchLog,
        display: SearchDisplay | None,
        outer_steps: int,
        number: Callable[[], int],
        keep: Callable[[InnerRun], None],
    ) -> None:
        super().__init__()
        self._log, self._display, self._outer_steps = log, display, outer_steps
        self._number, self._keep = number, keep
        self.checkpoint_seconds = log.checkpoint_seconds
        self.rows_per_epoch = log.rows_per_epoch or 1
        self.spent = 0.0
        self._deferred = Deferred()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Ctrl-C waits for the end of a step, and a display lives, until the block ends."""
        with deferred_interrupts() as self._deferred, self._display or contextlib.nullcontext():
            yield

    def begin(self, inner: InnerRun) -> None:
        """An inner run begins, or goes on."""
        if inner.step == 0:
            self.spent = 0.0
        self._began = time.monotonic() - self.spent
        if self._display is not None:
            self._display.begin(self._number(), self._outer_steps, inner.horizon)

    def after_step(self, inner: InnerRun, back: int = 0, others: int = 0) -> None:
        """A step was taken."""
        self.spent = self.seconds
        if self._display is not None:
            self._display.step(inner.step, back, others)

    def look(self, inner: InnerRun, validation: Validation | None) -> Evaluation | None:
        """Tell the log how the run stands, if it wants to know."""
        if not self._log.rows_per_epoch or inner.before:
            return None
        assert validation is not None
        train_loss, train_accuracy = inner.take_means()
        loss, accuracy = evaluated(inner, validation)
        at = self._number(), inner.epoch, inner.step
        self._log.row(
            InnerRow(*at, train_loss, train_accuracy, loss, accuracy, inner.values, self.seconds)
        )
        return Evaluation(loss, accuracy)

    def stop_if_asked(self) -> None:
        """Let a Ctrl-C through that has waited for the end of a step."""
        self._deferred.let_through()

    def save(self, inner: InnerRun) -> None:
        """Hand the log a checkpoint in the middle of an outer step."""
        self._keep(inner)
