"""Tasks over the machines of a Ray cluster.

Ray has a backend for joblib, too. It refuses to give results as they come, and deals tasks out in
turn, so that some wait behind a long one while workers are idle; hence its actors themselves.
"""

import contextlib
import logging
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hypergrad.parallel.worker import (
    Executor,
    ResultT,
    TaskT,
    WorkerLost,
    do_in_worker,
    ready_worker,
)
from hypergrad.runs.interrupt import Interrupt, Interrupted

__all__ = ["spread_over_cluster"]

_PATIENCE = 60.0  # seconds for a first worker to start: others may have taken the machines
_LOOK = 0.3  # seconds between two looks at whether to stop

_Place = tuple[str, int]  # a machine of the cluster, and a process on it


def spread_over_cluster(
    work: Callable[[TaskT], ResultT],
    tasks: Iterable[TaskT],
    executor: Executor,
    interrupt: Interrupt,
    begin: Callable[..., None],
    arguments: Sequence[object] = (),
) -> Iterator[tuple[TaskT, ResultT]]:
    """Do independent tasks in workers that live as long as this call; see `pool.spread`.

    The cluster is the one that RAY_ADDRESS names, otherwise one of this machine alone that lives as
    long, too. With `executor.jobs` of 1 there are as many workers as it has room for. Those that
    find none wait for it, while the others work. After a worker's death no task is begun; those in
    flight elsewhere are finished.

    Raises:
        ValueError: If the cluster cannot be reached, or has no room for a worker.
    """
    tasks = iter(tasks)
    first = list(islice(tasks, 1))
    if not first:
        return  # without starting anything
    order = pickle.dumps((begin, tuple(arguments)))
    joined, workers = _join(), []
    try:
        worker: Any = ray.remote(num_cpus=1, num_gpus=executor.gpus)(_Worker)
        start = executor.threads, executor.grace
        workers = [worker.remote(*start) for _ in range(_count(executor))]
        yield from _share(work, chain(first, tasks), order, workers, interrupt, executor.grace)
    finally:
        for each in workers:
            ray.kill(each)
        if joined:
            ray.shutdown()


def _share(
    work: Callable[[TaskT], ResultT],
    tasks: Iterator[TaskT],
    order: bytes,
    workers: Sequence[Any],
    interrupt: Interrupt,
    grace: float,
) -> Iterator[tuple[TaskT, ResultT]]:
    """Give each worker a task once it has started, and the next one whenever it is done."""
    starting = {worker.start.remote(): worker for worker in workers}
    busy: dict[ray.ObjectRef, tuple[Any, _Place]] = {}
    lost: WorkerLost | None = None
    patient_until = time.monotonic() + _PATIENCE
    while busy or (starting and lost is None):
        if interrupt.requested:
            _let_end({task: place for task, (_, place) in busy.items()}, grace)
            raise Interrupted(interrupt.requested)
        # Not `at_once`: what a signal's handler raises in here is swallowed (Ray 2.60).
        done, _ = ray.wait([*busy, *starting], timeout=_LOOK)
        if not done:
            if not busy and time.monotonic() > patient_until:
                raise ValueError(
                    f"no Ray worker could start within {_PATIENCE:.0f} s: others have taken the "
                    "machines; `ray status` tells"
                )
            continue
        (reference,) = done
        started = reference in starting
        worker, place = (starting.pop(reference), None) if started else busy.pop(reference)
        try:
            result = ray.get(reference)
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            lost = WorkerLost(f"a Ray worker died: {_first_line(error)}")
            lost.__cause__ = error
            continue
        if place is None:
            place = result
        else:
            yield result
        if lost is None:
            for task in islice(tasks, 1):
                busy[worker.run.remote(work, order, task)] = worker, place
            if not busy:
                return
    if lost is not None:
        raise lost


def _let_end(busy: Mapping[ray.ObjectRef, _Place], grace: float) -> None:
    """Ask the tasks in flight to come to an end, on whatever machine they are, and wait."""
    kill, until, left = ray.remote(num_cpus=0)(_terminate), time.monotonic() + grace, list(busy)
    while left and time.monotonic() < until:
        for node, pid in (busy[task] for task in left):
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            kill.options(scheduling_strategy=there).remote(pid)
        # A task that was only just handed over does not hear of it the first time.
        _, left = ray.wait(left, num_returns=len(left), timeout=1.0)


def _terminate(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


class _Worker:
    """What an actor is."""

    def __init__(self, threads: int | None, grace: float) -> None:
        ready_worker(threads, grace)

    def start(self) -> _Place:
        """Return on which machine, and as which process, there is a worker."""
        return ray.get_runtime_context().get_node_id(), os.getpid()

    def run(
        self, work: Callable[[TaskT], ResultT], order: bytes, task: TaskT
    ) -> tuple[TaskT, ResultT]:
        return do_in_worker(work, order, task)


def _join() -> bool:
    """Join the cluster that RAY_ADDRESS names, or start one here; False if that has been done."""
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS", "local")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Workers without a share of a GPU see the machine's as they come.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address)
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except OSError as error:
        raise ValueError(
            f"RAY_ADDRESS={address}: {_first_line(error)}; start Ray there (ray start --head), or "
            "unset it to use this machine alone"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has put its own there
    return True


def _knock(address: str) -> None:
    """Raise OSError if nobody listens: Ray would go on trying for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _count(executor: Executor) -> int:
    """How many workers to ask for.

    Raises:
        ValueError: If there is room for none.
    """
    room = sum(_room(node["Resources"], executor.gpus) for node in ray.nodes() if node["Alive"])
    if room == 0:
        raise ValueError(
            f"no machine of the Ray cluster has a CPU and {executor.gpus:g} GPUs: see gpus"
        )
    return executor.jobs if executor.jobs > 1 else room


def _room(resources: Mapping[str, float], gpus: float) -> int:
    """How many workers a machine can hold; a share of a GPU is of one GPU."""
    cpus, cards = (int(resources.get(kind, 0)) for kind in ("CPU", "GPU"))
    if not gpus:
        return cpus
    return min(cpus, cards * int(1 / gpus) if gpus <= 1 else cards // int(gpus))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
