"""Races: candidates on the same keys, of which those that are clearly worse stop early."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from hypergrad.core.move_space import Candidate
from hypergrad.training.improvement.interval import quantile
from hypergrad.training.improvement.trainings import Asking, Key, Training, capped

__all__ = ["Race", "clearly_worse", "race"]

LEAD = 0.1  # share of the cap by which a mean is clearly worse, even of one training
CONFIDENCE = 0.95  # one-sided, with which that of several is


class Race(NamedTuple):
    """What came of a race.

    Attributes:
        losses: Capped, of each candidate, on the keys that it was trained on.
        metrics: Likewise.
        best: The one chosen among those that came to the end; the first on a draw.
    """

    losses: tuple[tuple[float, ...], ...]
    metrics: tuple[tuple[float, ...], ...]
    best: int


def race(
    candidates: Sequence[tuple[str, Candidate]],
    stage: str,
    first_key: int,
    count: int,
    margins: Sequence[float],
    cap: float,
    *,
    iteration: int = 0,
    choose: str = "mean",
) -> Asking[Race]:
    """Ask for the trainings of a race, a key after another.

    Args:
        candidates: With their names.
        stage: Of the keys.
        first_key: Their first number.
        count: How many keys.
        margins: In turn.
        cap: What dead trainings count as.
        iteration: For the record.
        choose: By `mean` or `worst` loss.
    """
    losses: list[list[float]] = [[] for _ in candidates]
    metrics: list[list[float]] = [[] for _ in candidates]
    running = list(range(len(candidates)))
    for number in range(count):
        if len(running) == 1:
            break
        key, margin = Key(stage, first_key + number), margins[number % len(margins)]
        asked = tuple(
            Training(key, candidates[i][1], margin, False, iteration, candidates[i][0])
            for i in running
        )
        outcomes = yield asked
        for i, outcome in zip(running, outcomes, strict=True):
            losses[i].append(capped(outcome.loss, cap))
            metrics[i].append(outcome.accuracy)
        leader = min(running, key=lambda i: statistics.mean(losses[i]))
        running = [
            i for i in running if i == leader or not clearly_worse(losses[i], losses[leader], cap)
        ]
    best = running[0]
    if len(running) > 1:
        of = statistics.mean if choose == "mean" else max
        best = min(running, key=lambda i: of(losses[i]))
    return Race(tuple(map(tuple, losses)), tuple(map(tuple, metrics)), best)


def clearly_worse(own: Sequence[float], leader: Sequence[float], cap: float) -> bool:
    """Whether losses are clearly above those of another candidate on the same keys.

    >>> clearly_worse([3.0], [0.1], cap=3.0), clearly_worse([0.121, 0.13], [0.11, 0.12], cap=3.0)
    (True, True)
    >>> clearly_worse([0.2], [0.1], cap=3.0), clearly_worse([0.2, 0.1], [0.1, 0.12], cap=3.0)
    (False, False)
    """
    more = [a - b for a, b in zip(own, leader, strict=True)]
    if statistics.mean(more) > LEAD * cap:
        return True
    if len(more) < 2 or min(more) <= 0:
        return False
    error = statistics.stdev(more) / math.sqrt(len(more))
    return statistics.mean(more) > quantile(CONFIDENCE, len(more) - 1) * error
