"""A process's streams and Ctrl-C: no reader that goes away, terminal or full disk ends a run."""

import contextlib
import errno
import io
import signal
import sys
from dataclasses import dataclass, field
from types import FrameType

__all__ = ["Lost", "OwnProcess"]

# Of a reader, a terminal or a disk; whatever else fails is a fault of this program.
_GONE = (errno.EPIPE, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EBADF, errno.ESHUTDOWN)


@dataclass
class Lost:
    """What could not be printed on stdout.

    Attributes:
        error: Why, the first time; None as long as everything was.
    """

    error: OSError | None = field(default=None)

    @property
    def by_reader(self) -> bool:
        """Whether a reader has seen enough, as `head` does, and nothing is wrong."""
        return self.error is not None and self.error.errno == errno.EPIPE


class _Raw(io.FileIO):
    """A file descriptor that takes everything, written or not."""

    def __init__(self, descriptor: int, lost: Lost) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._lost = lost

    def write(self, data) -> int:  # noqa: ANN001 (as of FileIO)
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._lost.error = self._lost.error or error
            return memoryview(data).nbytes


class OwnProcess:
    """What a command does to the process that it has for itself; under a test it has none.

    Attributes:
        lost: What could not be printed on stdout.
        stopped: Whether Ctrl-C was pressed where nothing had a better answer to it.
    """

    def __init__(self) -> None:
        self.lost = Lost()
        self.stopped = False
        self._owns = False

    @classmethod
    def of_this(cls) -> "OwnProcess":
        """Take the streams over, and note Ctrl-C."""
        process = cls()
        process._take_streams()
        if process._owns and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, process._note)
        return process

    def end(self) -> None:
        """Let everything out; from here on Ctrl-C has only Python's own end to stop."""
        if self._owns:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True
        raise KeyboardInterrupt

    def _take_streams(self) -> None:
        for name, number, record in (("stdout", 1, self.lost), ("stderr", 2, Lost())):
            stream = getattr(sys, name)
            if not isinstance(stream, io.TextIOWrapper):
                continue
            # Characters that its encoding may lack are in tables: ±, †.
            stream.reconfigure(errors="replace")
            try:
                if stream.fileno() != number:
                    continue
            except (OSError, ValueError):
                continue
            self._owns = True
            buffered = name == "stdout" and not stream.isatty()
            whole = io.TextIOWrapper(
                io.BufferedWriter(_Raw(number, record)),
                encoding=stream.encoding,
                errors="replace",
                line_buffering=not buffered,
            )
            setattr(sys, name, whole)
