"""How many threads a run computes with, and in how many processes."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from hypergrad.config.machine import cores
from hypergrad.config.schema import RunConfig
from hypergrad.core.functional_model import FlatModel
from hypergrad.data import Dataset
from hypergrad.drivers.cost import Plan, tasks_of
from hypergrad.drivers.probe import training_step

__all__ = ["fastest_threads", "with_threads", "worker_count", "worker_threads"]

ROUNDS = 5
GAIN = (
    0.85  # of one thread's time: what is hardly faster on a quiet machine is slower on a busy one
)


def with_threads(
    config: RunConfig, data: Dataset, model: FlatModel, workers: int = 1
) -> tuple[RunConfig, tuple[str, ...]]:
    """Return the configuration with a number of threads in place of `auto`, and why, in a line.

    Unchanged, without a line, if a number is given, on a GPU, and for Ray's workers.

    Args:
        config: The run's configuration.
        data: The images.
        model: The network.
        workers: Processes that the run's work is done in.
    """
    if config.threads != "auto" or data.train.images.device.type != "cpu":
        return config, ()
    most = torch.get_num_threads()
    if config.executor != "local" or workers > 1:
        threads = worker_threads(config.threads, config.executor, workers)
        why = f"the cores' share of each of {workers} processes"
    elif most == 1:
        threads, why = 1, "it has no more"
    else:
        threads, why = fastest_threads(training_step(config, data, model), most)
    if threads is None:
        return config, ()
    return replace(config, threads=str(threads)), (f"threads={threads}: {why}",)


def worker_count(config: RunConfig, layout: Plan) -> int:
    """Return how many processes a run's work is done in: here no more than there are tasks.

    Args:
        config: The run's configuration.
        layout: Its plan.
    """
    if config.executor != "local":
        return config.jobs
    return int(max(1, min(config.jobs, tasks_of(config, layout))))


def worker_threads(threads: str, executor: str, workers: int) -> int | None:
    """Return the threads of each worker process: their share of the cores, unless they are given.

    Args:
        threads: As configured.
        executor: As configured.
        workers: Processes that start.

    Returns:
        None for Ray's workers, which have what Ray gives them.
    """
    if threads != "auto":
        return int(threads)
    return None if executor != "local" else max(1, cores() // workers)


def fastest_threads(step: Callable[[], object], most: int) -> tuple[int, str]:
    """Return one or all, whichever takes a step faster, and the times in words.

    Args:
        step: Does the work.
        most: Threads that there are.
    """
    before = torch.get_num_threads()
    seconds: dict[int, list[float]] = {1: [], most: []}
    try:
        for turn in range(ROUNDS + 1):
            for count, own in seconds.items():
                torch.set_num_threads(count)
                began = time.perf_counter()
                step()
                if turn:  # the first warms up
                    own.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    one, every = statistics.median(seconds[1]), statistics.median(seconds[most])
    why = f"a step takes {one * 1e3:.3g} ms with one, {every * 1e3:.3g} ms with {most}"
    return (most if every < GAIN * one else 1), why
