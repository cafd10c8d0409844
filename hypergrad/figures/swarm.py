"""A swarm of points: those of about the same height side by side, so that each can be seen."""

from __future__ import annotations

import numpy as np


def swarm(heights: np.ndarray, size: float, reach: float) -> np.ndarray:
    """Move points sideways, so that as few as possible hide another; the highest stay in place.

    Args:
        heights: `(K,)`; any unit.
        size: the distance at which two points do not hide each other, in the same unit.
        reach: how far a point may move to either side: where many are of one height, they do hide
            each other.

    Returns:
        `(K,)` how far each point is moved.

    >>> swarm(np.array([1.0, 1.0, 1.0, 5.0]), size=2.0, reach=3.0).tolist()
    [0.0, -2.0, 2.0, 0.0]
    """
    steps = int(reach / size)
    places = size * np.array(sorted(range(-steps, steps + 1), key=abs))
    moved = np.zeros(heights.size)
    done = np.zeros(heights.size, dtype=bool)
    for i in np.argsort(-heights, kind="stable"):
        away = np.hypot(places[:, None] - moved[done], heights[i] - heights[done])
        hidden = (away < 0.999 * size).sum(axis=1)  # rounding must not make neighbours of them
        moved[i] = places[np.argmin(hidden)]  # the first of equals is the nearest to the middle
        done[i] = True
    return moved
