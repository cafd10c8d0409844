"""Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 as a request that the run answers at its next safe point.

SIGUSR1 is what a batch system is asked to send before the time limit; its exit code tells a job
that was cut short, and is to be queued again, from one that somebody has ended.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType

__all__ = ["Interrupt", "Interrupted", "catch_signals", "known_signals"]

# Windows has neither SIGHUP nor SIGUSR1; Ctrl-Break there is SIGBREAK.
PATIENCE = 1.5  # seconds that nobody wonders about
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGBREAK")


def known_signals(*names: str) -> list[signal.Signals]:
    """Return those of some signals that this system has.

    >>> [number.name for number in known_signals("SIGINT", "SIGNONE")]
    ['SIGINT']
    """
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


class Interrupted(Exception):  # noqa: N818 (a request, not an error)
    """The run stopped on request, with everything on disk that it needs to go on."""


@dataclass
class Interrupt:
    """What has been asked of the run.

    Attributes:
        requested: `SIGINT`, `SIGTERM`, `SIGHUP`, `SIGUSR1` (on Windows `SIGBREAK`), or None while
            nothing was.
        step_seconds: How long the work between two looks at `requested` takes, where that is known.
    """

    requested: str | None = None
    step_seconds: float = 0.0
    _at_once: bool = field(default=False, init=False, repr=False, compare=False)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a request raise in the main thread where it arrives, until the block ends.

        For a wait inside a library that never looks at `requested`. What the block does may stop
        anywhere, so there should be nothing in it but the wait.

        Raises:
            Interrupted: On a request, or at once if there has been one.
        """
        self._at_once = True  # before the look, so that no request falls between
        try:
            if self.requested:
                raise Interrupted(self.requested)
            yield
        finally:
            self._at_once = False

    @property
    def exit_code(self) -> int:
        """128 + a signal's number: SIGINT 130, SIGTERM 143, SIGHUP 129, SIGUSR1 138; or 0."""
        return 0 if self.requested is None else 128 + int(signal.Signals[self.requested])


def _say(interrupt: Interrupt) -> None:
    """Say how long it will take, where that is long enough to wonder."""
    if interrupt.step_seconds < PATIENCE:
        return
    text = (
        f"\nstopping after this step, of {interrupt.step_seconds:.0f} s, with a checkpoint; "
        "Ctrl-C again stops at once, without one\n"
    )
    with contextlib.suppress(OSError):
        os.write(2, text.encode())  # not by Python's stream, which may be at work just now


_outermost: Interrupt | None = None  # the note of the block that this process is in


@contextlib.contextmanager
def catch_signals() -> Iterator[Interrupt]:
    """Note SIGINT, SIGTERM, SIGHUP and SIGUSR1 instead of dying of them, until the block ends.

    A SIGHUP that is ignored, as under `nohup`, stays ignored.

    A second SIGINT raises KeyboardInterrupt at once. A block within a block has the outer one's
    note, so that a request stops both. Outside the main thread, where Python allows no signal
    handlers, nothing is caught.

    Returns:
        A context manager that yields the note.
    """
    global _outermost
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread() or _outermost is not None:
        yield _outermost or interrupt
        return

    _outermost, impatient = interrupt, False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal impatient
        if number == signal.SIGINT:
            if impatient:
                raise KeyboardInterrupt
            impatient = True
        if interrupt.requested is None:
            interrupt.requested = signal.Signals(number).name
            _say(interrupt)
            if interrupt._at_once:
                raise Interrupted(interrupt.requested)

    previous = {number: signal.getsignal(number) for number in known_signals(*_NAMES)}
    for number in known_signals("SIGHUP"):
        if previous[number] == signal.SIG_IGN:
            del previous[number]
    try:
        for number in previous:
            signal.signal(number, handle)
        yield interrupt
    finally:
        _outermost = None
        for number, handler in previous.items():
            # None: installed by something other than Python, which cannot put it back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
