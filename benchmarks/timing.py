"""Timing on a machine that others use too: all contenders in turn, round after round."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
from typing import NamedTuple

import torch

__all__ = ["CLOCKS", "Timed", "alternate", "summarise"]

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


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
    contenders: Mapping[str, Callable[[], object]], rounds: int, clock: str = "wall"
) -> dict[str, list[float]]:
    """Time contenders in turn.

    Args:
        contenders: What to call, by name.
        rounds: Timed calls of each, after one that is not.
        clock: `wall`, or `cpu`: this process' own time over all its threads, which other
            processes disturb less; it says nothing of a GPU, and waiting threads count.

    Returns:
        Seconds of each round, by name.
    """
    now = CLOCKS[clock]
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, call in contenders.items():
            began = now()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                seconds[name].append(now() - began)
    return seconds


def summarise(seconds: Sequence[float], reference: Sequence[float]) -> Timed:
    """Return what rounds say.

    Args:
        seconds: Of a contender, one entry a round, at least two.
        reference: Of the reference, in the same rounds.

    Returns:
        Median, spread and gain.
    """
    low, middle, high = quantiles(seconds, n=4)
    gain = median(there / here for there, here in zip(reference, seconds, strict=True))
    return Timed(middle, (high - low) / middle, gain)
