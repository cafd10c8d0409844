"""Hyperband (Li et al., 2018): many short trainings, and longer ones of the better settings.

The resource is epochs. A setting that goes on is trained anew with a longer horizon, so that its
schedule ends at every length, as it will in the final training: a trial is a whole training, and
what a rung decides by is what it would be worth if it stopped there.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Rung", "brackets", "promoted"]


class Rung(NamedTuple):
    """Trainings of one length.

    Attributes:
        settings: How many are trained.
        epochs: For how long each.
    """

    settings: int
    epochs: int


def brackets(epochs: int, least: int, reduction: int) -> list[list[Rung]]:
    """Return the brackets of Hyperband, the one with the most and shortest trainings first.

    Bracket `s` begins with `ceil((s_max + 1) / (s + 1) * eta**s)` settings of `R * eta**-s` epochs,
    and each rung passes on one in `eta` of its settings (their Algorithm 1).

    Args:
        epochs: `R`, of a whole training.
        least: Of the shortest one.
        reduction: `eta`.

    Returns:
        The rungs of each bracket; the last one of each is of `epochs`.

    >>> brackets(9, 1, 3)[0]
    [Rung(settings=9, epochs=1), Rung(settings=3, epochs=3), Rung(settings=1, epochs=9)]
    """
    top = 0
    while least * reduction ** (top + 1) <= epochs:
        top += 1
    found = []
    for s in range(top, -1, -1):
        begun = math.ceil((top + 1) / (s + 1) * reduction**s)
        found.append(
            [
                Rung(max(1, begun // reduction**i), round(epochs / reduction ** (s - i)))
                for i in range(s + 1)
            ]
        )
    return found


def promoted(scores: Sequence[tuple[float, float]], count: int) -> list[int]:
    """Return which of a rung's settings go on: the `count` best, the earlier one at a draw.

    >>> promoted([(0.5, 0.0), (0.9, 0.0), (0.5, 0.0)], 2)
    [0, 1]
    """
    ranked = sorted(range(len(scores)), key=lambda place: scores[place], reverse=True)
    return sorted(ranked[:count])
