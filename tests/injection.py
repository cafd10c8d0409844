"""File operations counted, and a process that dies at one: nothing reaches the disk after."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypergrad.runs import run_log

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
_HOWS = ("killed", "full disk", "Ctrl-C")
_active: "Operations | None" = None


class Killed(BaseException):
    """Stands for SIGKILL: whatever is done on the way out, no file changes any more."""


class Operations:
    """Counts what changes files in a folder, and breaks off at one operation.

    Args:
        folder: Whose files.
        at: Break off at this one, from 0; None never.
        how: `killed`, `full disk` (from there on), or `Ctrl-C` (once).
    """

    def __init__(self, folder: Path, at: int | None = None, how: str = "killed") -> None:
        assert how in _HOWS
        self.folder, self.at, self.how = str(folder), at, how
        self.count = 0
        self.names: list[str] = []
        self.broken = False

    def happens(self, name: str, path: object, *, frees: bool = False) -> None:
        """An operation is about to happen."""
        if not str(path).startswith(self.folder):
            return
        self.names.append(f"{name} {str(path).removeprefix(self.folder)}")
        self.count += 1
        first = self.count - 1 == self.at
        self.broken = self.broken or first
        if self.broken and self.how == "killed":
            raise Killed(self.names[-1])
        if self.broken and self.how == "full disk" and not frees:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        if first and self.how == "Ctrl-C":
            raise KeyboardInterrupt


def _hook(event: str, arguments: tuple) -> None:
    if _active is None:
        return
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
        if not isinstance(arguments[0], int):
            _active.happens("open", arguments[0])
    elif event in _CHANGES and not isinstance(arguments[0], int):
        frees = event in ("os.remove", "os.rmdir", "shutil.rmtree")
        _active.happens(event, arguments[0], frees=frees)


sys.addaudithook(_hook)  # cannot be taken back; it does nothing while no operations are counted


@contextlib.contextmanager
def counted(operations: Operations) -> Iterator[Operations]:
    """Count, and break off, until the block ends."""
    global _active
    write = run_log._write_all

    def fsync(descriptor: int) -> None:  # nothing here survives a power cut
        operations.happens("fsync", operations.folder)

    def write_half(file: object, data: bytes) -> None:
        try:
            operations.happens("write", getattr(file, "name", ""))
        except BaseException:
            if operations.names and operations.count - 1 == operations.at:
                write(file, data[: len(data) // 2])  # pyright: ignore[reportArgumentType]
            raise
        write(file, data)  # pyright: ignore[reportArgumentType]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(run_log, "_write_all", write_half)
        _active = operations
        try:
            yield operations
        finally:
            _active = None
