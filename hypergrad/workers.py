"""Tasks over worker processes: results as they come, no orphans, no waiting after Ctrl-C."""

import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from typing import Any, TypeVar

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import LokyBackend

from hypergrad.runs.interrupt import Interrupt

__all__ = ["Executor", "WorkerLost", "spread"]

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_LOOK = 0.2  # seconds between two looks at whether the driver still lives

_ready: bytes | None = None  # what this worker process is ready for


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

    Raises:
        ValueError: For a name that there is not, and for what that executor cannot do.
    """

    name: str = "local"
    jobs: int = 1
    gpus: float = 0.0
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.name not in ("local", "ray"):
            raise ValueError(f"executor {self.name!r}: use local or ray")
        if self.name == "ray" and find_spec("ray") is None:
            raise ValueError("executor ray is not installed: pip install 'hypergrad[ray]'")
        if self.gpus and self.name == "local":
            raise ValueError(
                f"gpus={self.gpus:g}: local workers share what there is; use executor ray, or 0"
            )
        if self.gpus < 0 or (self.gpus > 1 and self.gpus % 1):
            raise ValueError(f"gpus={self.gpus:g}: give a share of one GPU, or whole ones")


def spread(
    work: Callable[[TaskT], ResultT],
    tasks: Iterable[TaskT],
    executor: Executor,
    interrupt: Interrupt,
    begin: Callable[..., None],
    arguments: Sequence[object] = (),
) -> Iterator[tuple[TaskT, ResultT]]:
    """Do independent tasks in worker processes; those of this machine stay for the next call.

    After any end but the ordinary one (an exception, an interruption, a `close()`) the tasks in
    flight are dropped and their workers killed; the next call begins with new ones.

    Args:
        work: Does one task; a function of a module, like `begin`, so that a process can find it.
        tasks: Is asked for a task when a worker is free for it and not before, so that no more
            are taken and not done than there are workers; from other threads than the caller's,
            one at a time. When it ends, what is in flight is finished.
        executor: Where to do them.
        interrupt: Asks to stop: the tasks in flight are dropped.
        begin: Is called in a worker before its first task, and again when it or its arguments
            differ from what the worker is ready for.
        arguments: Of `begin`.

    Yields:
        Each task and its result, in the order in which they end.

    Raises:
        Interrupted: When asked to stop.
        WorkerLost: If a worker died.
        ValueError: If a Ray cluster cannot be reached, or has no room for a worker.
        Exception: What `work`, `begin` or `tasks` raises.
    """
    if executor.name == "ray":
        from hypergrad.cluster import spread_over_cluster  # here, because Ray is optional

        yield from spread_over_cluster(work, tasks, executor, interrupt, begin, arguments)
        return
    order = pickle.dumps((begin, tuple(arguments)))
    backend = _Processes(
        inner_max_num_threads=executor.threads,
        initializer=_enter,
        initargs=(os.getpid(), executor.threads),
    )
    parallel = _OneByOne(
        executor.jobs,
        backend=backend,
        return_as="generator_unordered",
        pre_dispatch="n_jobs",
        max_nbytes=None,  # no arrays in shared files
    )
    try:
        results: Any = parallel(delayed(do_in_worker)(work, order, task) for task in tasks)
        yield from _listen(results, interrupt)
    except TerminatedWorkerError as error:
        raise WorkerLost("a worker process died: killed, or out of memory") from error


def _listen(
    results: Generator[tuple[TaskT, ResultT], None, None], interrupt: Interrupt
) -> Iterator[tuple[TaskT, ResultT]]:
    """Yield joblib's results; whatever ends this, joblib ends with it."""
    try:
        while True:
            with interrupt.at_once():
                pair = next(results, None)
            if pair is None:
                return
            yield pair
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib's advice to give it fewer tasks
            results.close()


class _OneByOne(Parallel):
    """joblib takes as many tasks at a time as it has workers; this takes one."""

    def dispatch_one_batch(self, iterator: Iterator[object]) -> bool:
        return super().dispatch_one_batch(islice(iterator, 1))


class _Processes(LokyBackend):
    """Processes of this machine."""

    def abort_everything(self, ensure_ready: bool = True) -> None:
        # Told to end in the instant between being given a task and looking at it, the thread in
        # charge of the workers dies of a KeyError, and they go on (joblib 1.6).
        time.sleep(_LOOK)
        super().abort_everything(ensure_ready)


def _enter(driver: int, threads: int | None) -> None:
    """Begin a worker process of this machine."""
    threading.Thread(target=_leave_with, args=(driver,), daemon=True).start()
    ready_worker(threads)


def ready_worker(threads: int | None) -> None:
    """Make a process a worker that computes with so many threads."""
    # Ctrl-C reaches the whole group: the driver decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if threads is not None:
        import torch  # here, because not every worker needs it

        torch.set_num_threads(threads)


def _leave_with(driver: int) -> None:
    """End this process when the one that made it has died."""
    while os.getppid() == driver:
        time.sleep(_LOOK)
    os._exit(1)


def do_in_worker(
    work: Callable[[TaskT], ResultT], order: bytes, task: TaskT
) -> tuple[TaskT, ResultT]:
    """Do a task in a worker process; `order` is compared by value, whatever it holds."""
    global _ready
    if order != _ready:
        _ready = None
        begin, arguments = pickle.loads(order)
        begin(*arguments)
        _ready = order
    return task, work(task)
