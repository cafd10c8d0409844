"""Parts of a run in processes of their own, several at once: each writes its own directory.

`python -m hypergrad.parallel.subprocesses PART PARENT` is one such process.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.interrupt import Interrupt, Interrupted

__all__ = ["side_by_side"]

LOG = "log.txt"  # of a part: what it would have said on the terminal
_LOOK = 0.5  # seconds between two looks at the processes
_GRACE = 30.0  # seconds that a part has for its checkpoint


def side_by_side(
    parts: Sequence[RunDirectory],
    jobs: int,
    interrupt: Interrupt,
    watch: Callable[[list[RunDirectory]], None],
) -> Iterator[tuple[RunDirectory, str]]:
    """Take parts to their end in several processes.

    Args:
        parts: Run directories with their configuration written.
        jobs: Processes at once.
        interrupt: Asks to stop: the parts under way write a checkpoint first.
        watch: Is told now and then which parts are under way.

    Yields:
        Each part that has ended, and what went wrong; empty if nothing did.

    Raises:
        Interrupted: When asked to stop.
    """
    waiting, running = list(parts), dict[subprocess.Popen, RunDirectory]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                part = waiting.pop(0)
                running[_start(part)] = part
            time.sleep(_LOOK)
            for process in [process for process in running if process.poll() is not None]:
                part = running.pop(process)
                yield part, _complaint(part, process.returncode)
            watch(list(running.values()))
            if interrupt.requested:
                raise Interrupted(interrupt.requested)
    finally:
        _stop(list(running))


def _start(part: RunDirectory) -> subprocess.Popen:
    command = [sys.executable, "-m", __name__, str(part.path), str(os.getpid())]
    with (part.path / LOG).open("ab") as log:
        # A session of its own: Ctrl-C on the terminal reaches the parent alone, which passes it on.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """Let processes write a checkpoint and end."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    until = time.monotonic() + _GRACE
    for process in processes:
        try:
            process.wait(max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _complaint(part: RunDirectory, code: int) -> str:
    if code == 0:
        return ""
    if part.status() == "failed":
        return str(part.read_summary()["message"])
    lines = (part.path / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return f"ended with {code}: {last} (see {part.path / LOG})"


def _leave_with(parent: int) -> None:
    """Ask this process to stop, after a checkpoint, when the one that made it has died."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os.kill(os.getpid(), signal.SIGTERM)


def _main(path: Path, parent: int) -> None:
    from hypergrad.cli import app as cli

    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    sys.argv = ["hypergrad", "run", "--resume", str(path)]
    cli.main()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
