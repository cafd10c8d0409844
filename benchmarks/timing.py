"""Timing on a machine that others use too: all contenders in turn, round after round."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
from typing import NamedTuple

import torch

__all__ = ["CLOCKS", "Timed", "alternate", "summarise"]

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
SHORT = 1.0  # seconds: a longer call fills the caches several times over by itself
FEWEST = 2  # rounds: fewer have no spread


class Timed(NamedTuple):
    """How long one contender takes.

    Attributes:
        seconds: Median over the rounds.
        spread: Distance between the quartiles, as a share of the median.
        gain: Median over the rounds of the reference's time by this one's in the same round:
            whatever slows the machine down for a while touches both.
    """

    seconds: float
    spread: float
    gain: float


def alternate(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: str = "wall",
    limit: float = math.inf,
) -> dict[str, list[float]]:
    """Time contenders in turn.

    Args:
        contenders: What to call, by name.
        rounds: Timed calls of each, after one that is not. Before a short one comes another that is
            not timed: in training a step finds caches and memory as its like has left them.
        clock: `wall`, or `cpu`: this process' own time over all its threads, which other
            processes disturb less; it says nothing of a GPU, and waiting threads count.
        limit: Seconds on the wall, from the first call on, after which no further round begins,
            once there are two.

    Returns:
        Seconds of each round, by name.
    """
    now, began = CLOCKS[clock], time.monotonic()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    last: dict[str, float] = {}
    for number in range(rounds + 1):
        if number > FEWEST and time.monotonic() - began > limit:
            break
        for name, call in contenders.items():
            if number and last[name] < SHORT:
                call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            start = now()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            last[name] = now() - start
            if number:
                seconds[name].append(last[name])
    return seconds


def summarise(seconds: Sequence[float], reference: Sequence[float]) -> Timed:
    """Return what rounds say.

    Args:
        seconds: Of a contender, one entry a round, at least two.
        reference: Of the reference, in the same rounds.

    Returns:
        Median, spread and gain.
    """
    low, middle, high = quantiles(seconds, n=4, method="inclusive")
    gain = median(there / here for there, here in zip(reference, seconds, strict=True))
    return Timed(middle, (high - low) / middle, gain)
