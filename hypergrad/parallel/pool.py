"""Tasks over worker processes: results as they come, no orphans, no waiting after Ctrl-C."""

import contextlib
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from joblib import Parallel, delayed
from joblib.executor import get_memmapping_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import LokyBackend

from hypergrad.parallel.worker import (
    LOOK,
    Executor,
    ResultT,
    TaskT,
    WorkerLost,
    do_in_worker,
    leave_with,
    ready_worker,
)
from hypergrad.runs.interrupt import Interrupt

__all__ = ["spread"]

IDLE = 300  # seconds that a worker without tasks stays, as joblib has it


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
    flight are dropped, once their grace is over, and their workers killed; the next call begins
    with new ones.

    Args:
        work: Does one task; a function of a module, like `begin`, so that a process can find it.
        tasks: Is asked for a task when a worker is free for it and not before, so that no more
            are taken and not done than there are workers; from other threads than the caller's,
            one at a time. When it ends, what is in flight is finished.
        executor: Where to do them.
        interrupt: Asks to stop.
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
        from hypergrad.parallel.ray_pool import spread_over_cluster  # here, because Ray is optional

        yield from spread_over_cluster(work, tasks, executor, interrupt, begin, arguments)
        return
    order = pickle.dumps((begin, tuple(arguments)))
    backend = _Processes(
        inner_max_num_threads=executor.threads,
        initializer=_enter,
        initargs=(os.getpid(), executor.threads, executor.grace),
    )
    backend.grace = executor.grace
    parallel = _OneByOne(
        executor.jobs,
        backend=backend,
        return_as="generator_unordered",
        pre_dispatch=str(executor.jobs),
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

    grace = 0.0

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,  # noqa: ANN401 (joblib's)
        prefer: str | None = None,
        require: str | None = None,
        idle_worker_timeout: float | None = None,
        **options: Any,  # noqa: ANN401 (joblib's)
    ) -> int:
        """Have a process even for one worker, whose tasks joblib would do in this one."""
        if n_jobs > 1:
            given = prefer, require, idle_worker_timeout
            return super().configure(n_jobs, parallel, *given, **options)
        self._workers = get_memmapping_executor(
            1,
            timeout=idle_worker_timeout or IDLE,
            env=self._prepare_worker_env(n_jobs=1),
            context_id=parallel._id,
            **self.backend_kwargs,
            **options,
        )
        self.parallel = parallel
        return 2  # anything but one, which joblib would do itself

    def abort_everything(self, ensure_ready: bool = True) -> None:
        workers: Any = self._workers
        until = time.monotonic() + self.grace
        # A task that was only just handed over does not hear of it the first time.
        while workers and workers._pending_work_items and time.monotonic() < until:
            for pid in list(workers._processes):
                with contextlib.suppress(OSError):  # it has ended
                    os.kill(pid, signal.SIGTERM)
            time.sleep(LOOK)
        # Told to end in the instant between being given a task and looking at it, the thread in
        # charge of the workers dies of a KeyError, and they go on (joblib 1.6).
        time.sleep(LOOK)
        super().abort_everything(ensure_ready)


def _enter(driver: int, threads: int | None, grace: float) -> None:
    """Begin a worker process of this machine."""
    threading.Thread(target=leave_with, args=(driver, grace), daemon=True).start()
    ready_worker(threads, grace)
