"""What a worker process is: how it begins, does one task after another, and leaves."""

import os
import pickle
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeVar

from hypergrad.runs.interrupt import known_signals

__all__ = [
    "Executor",
    "ResultT",
    "TaskT",
    "WorkerLost",
    "do_in_worker",
    "leave_with",
    "ready_worker",
]

LOOK = 0.2  # seconds between two looks at whether something has ended

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_ready: bytes | None = None  # what this worker process is ready for
_at_work = False  # whether it is doing a task


class WorkerLost(Exception):  # noqa: N818 (what happened, like Interrupted)
    """A worker died (killed, or out of memory); results that were not yielded are lost."""


@dataclass(frozen=True)
class Executor:
    """Where tasks are done.

    Attributes:
        name: `local`, processes of this machine; or `ray`, processes of a cluster's machines.
        jobs: Worker processes; 1 with Ray: as many as the cluster has room for.
        gpus: Share of a GPU that each has to itself, above 1 whole ones; with Ray alone. Without,
            they share the machine's as they come.
        threads: Each computes with so many, whatever `jobs` is; None leaves it to PyTorch.
        grace: Seconds that tasks in flight have to come to an end of their own, after a SIGTERM to
            their workers, before they are dropped; only tasks that catch it know of it.

    Raises:
        ValueError: For a name that there is not, and for what that executor cannot do.
    """

    name: str = "local"
    jobs: int = 1
    gpus: float = 0.0
    threads: int | None = None
    grace: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in ("local", "ray"):
            raise ValueError(f"executor {self.name!r}: use local or ray")
        if self.name == "ray" and find_spec("ray") is None:
            raise ValueError(
                "executor ray is not installed: in hypergrad's checkout, pip install -e '.[ray]'"
            )
        if self.gpus and self.name == "local":
            raise ValueError(
                f"gpus={self.gpus:g}: local workers share what there is; use executor ray, or 0"
            )
        if self.gpus < 0 or (self.gpus > 1 and self.gpus % 1):
            raise ValueError(f"gpus={self.gpus:g}: give a share of one GPU, or whole ones")


def ready_worker(threads: int | None, grace: float) -> None:
    """Make a process a worker that computes with so many threads; see `Executor`."""
    # Ctrl-C, the end of a session and what a batch system sends reach the whole group: the driver
    # decides.
    for number in known_signals("SIGINT", "SIGHUP", "SIGUSR1", "SIGBREAK"):
        signal.signal(number, signal.SIG_IGN)
    if grace:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # between tasks: there is nothing to stop
    if threads is not None:
        import torch  # here, because not every worker needs it

        torch.set_num_threads(threads)


def do_in_worker(
    work: Callable[[TaskT], ResultT], order: bytes, task: TaskT
) -> tuple[TaskT, ResultT]:
    """Do a task in a worker process; `order` is compared by value, whatever it holds."""
    global _ready, _at_work
    _at_work = True
    try:
        if order != _ready:
            _ready = None
            begin, arguments = pickle.loads(order)
            begin(*arguments)
            _ready = order
        return task, work(task)
    finally:
        _at_work = False


def leave_with(driver: int, grace: float) -> None:
    """End this process when the one that made it has died; a task in flight has so many seconds.

    On Windows a process keeps a dead parent's number: there a worker ends when its queue is closed,
    after the task in flight.
    """
    while os.getppid() == driver:
        time.sleep(LOOK)
    until = time.monotonic() + grace
    while _at_work and time.monotonic() < until:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(LOOK)
    os._exit(1)
