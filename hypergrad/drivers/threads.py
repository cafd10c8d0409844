"""How many threads a run computes with."""

import statistics
import time
from collections.abc import Callable

import torch

from hypergrad.config.checks import cores
from hypergrad.config.schema import RunConfig

__all__ = ["fastest_threads", "worker_threads"]

ROUNDS = 5
GAIN = (
    0.85  # of one thread's time: what is hardly faster on a quiet machine is slower on a busy one
)


def worker_threads(config: RunConfig) -> int | None:
    """Return the threads of each worker process: their share of the cores, unless they are given.

    Args:
        config: The run's configuration.

    Returns:
        None for Ray's workers, which have what Ray gives them.
    """
    if config.threads != "auto":
        return int(config.threads)
    return None if config.executor != "local" else max(1, cores() // config.jobs)


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
