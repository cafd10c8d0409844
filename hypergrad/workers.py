"""Tasks over worker processes: results as they come, no orphans, no waiting after Ctrl-C."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing.synchronize import Event
from typing import TypeVar

from hypergrad.runs.interrupt import Interrupt, Interrupted

__all__ = ["spread"]

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_LOOK = 0.2  # seconds between two looks at whether to stop


def spread(
    work: Callable[[TaskT], ResultT],
    tasks: Sequence[TaskT],
    jobs: int,
    interrupt: Interrupt,
    begin: Callable[..., None],
    arguments: Sequence[object] = (),
) -> Iterator[tuple[TaskT, ResultT]]:
    """Do independent tasks in several processes.

    Args:
        work: Does one task; a function of a module, like `begin`, so that a process can find it.
        tasks: The tasks, begun in this order.
        jobs: Processes.
        interrupt: Asks to stop: the tasks in flight are dropped.
        begin: Is called once in every process before its first task.
        arguments: Of `begin`.

    Yields:
        Each task and its result, in the order in which they end.

    Raises:
        Interrupted: When asked to stop.
        BrokenProcessPool: If a process died (was killed, or ran out of memory).
    """
    context = multiprocessing.get_context("spawn")  # a forked PyTorch can hang
    stop = context.Event()
    pool = ProcessPoolExecutor(
        min(jobs, len(tasks)), context, _begin, (stop, os.getpid(), begin, tuple(arguments))
    )
    try:
        waiting = {pool.submit(work, task): task for task in tasks}
        while waiting:
            done, _ = wait(waiting, timeout=_LOOK, return_when=FIRST_COMPLETED)
            for future in done:
                yield waiting.pop(future), future.result()
            if interrupt.requested:
                raise Interrupted(interrupt.requested)
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(
    stop: Event, parent: int, begin: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group: the parent decides
    threading.Thread(target=_leave_when_told, args=(stop, parent), daemon=True).start()
    begin(*arguments)


def _leave_when_told(stop: Event, parent: int) -> None:
    """End this process when asked to, or when the one that made it has died."""
    while os.getppid() == parent:
        if stop.wait(_LOOK):
            time.sleep(_LOOK)  # a process with nothing to do leaves by itself
            break
    os._exit(1)
