"""Ctrl-C between two inner steps, not within one."""

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["Deferred", "deferred_interrupts"]


class Deferred:
    """A Ctrl-C that waits until somebody looks.

    Attributes:
        came: Whether there was one.
    """

    def __init__(self) -> None:
        self.came = False

    def __call__(self, *given: object) -> None:
        """Note the first one; the second is raised where it comes."""
        if self.came:
            raise KeyboardInterrupt
        self.came = True

    def let_through(self) -> None:
        """Raise one that came.

        Raises:
            KeyboardInterrupt: If there was one.
        """
        if self.came:
            raise KeyboardInterrupt


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[Deferred]:
    """Let Ctrl-C wait for `let_through`; where that is somebody else's business, change nothing.

    Python's own handler alone is replaced, in the main thread alone, and put back at the end. One
    that nobody let through is raised then.
    """
    deferred = Deferred()
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield deferred
        return
    signal.signal(signal.SIGINT, deferred)
    try:
        yield deferred
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    deferred.let_through()
