"""Lines that leave their panel: what is inside is drawn, with an arrow where it goes out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

_FIRST = 3  # stretches that are always drawn
_LEAST = 0.02  # of the panel's width: later ones that are shorter are a tangle of dashes
_ARROWS = {True: "^", False: "v"}


class Stretch(NamedTuple):
    """A part of a line that lies inside, `(K,)` each; `leaves`: by the top, the bottom, or not."""

    x: np.ndarray
    y: np.ndarray
    leaves: bool | None


def stretches(x: np.ndarray, y: np.ndarray, limits: tuple[float, float]) -> list[Stretch]:
    """Cut a line where it crosses the limits, or is not finite.

    >>> [part.x.tolist() for part in stretches(np.arange(4.0), np.array([0, 2, 0, 0]), (-1, 1))]
    [[0.0, 0.5], [1.5, 2.0, 3.0]]
    """
    found: list[Stretch] = []
    own: list[tuple[float, float]] = []

    def end(leaves: bool | None) -> None:
        if own:
            xs, ys = np.array(own).T
            found.append(Stretch(xs, ys, leaves))
            own.clear()

    low, high = limits
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if not np.isfinite([y0, y1]).all():
            end(None)
            continue
        # Where between the two points, from 0 to 1, the line is inside.
        ends = sorted((edge - y0) / (y1 - y0) for edge in limits) if y1 != y0 else [0.0, 1.0]
        start, stop = max(0.0, ends[0]), min(1.0, ends[1])
        if start > stop or (y1 == y0 and not low <= y0 <= high):
            end(None)
            continue
        for place in (start, stop):
            point = x0 + place * (x1 - x0), min(max(y0 + place * (y1 - y0), low), high)
            if not own or own[-1] != point:
                own.append(point)
        if stop < 1.0:
            end(y1 > y0)
    end(None)
    return found


def draw_inside(axes: Axes, x: np.ndarray, y: np.ndarray, **look: Any) -> int:  # noqa: ANN401
    """Draw a line, `(K,)` each, in a panel whose limits are set, with arrows where it leaves.

    Returns:
        How many of its stretches are left out, for they are short and many.
    """
    limits = axes.get_ylim()
    left, right = axes.get_xlim()
    left_out = 0
    for place, part in enumerate(stretches(x, y, limits)):
        if place >= _FIRST and part.x[-1] - part.x[0] < _LEAST * (right - left):
            left_out += 1
            continue
        axes.plot(part.x, part.y, **look)
        if part.leaves is not None:
            draw_arrow(axes, part.x[-1], limits, up=part.leaves, colour=look["color"])
    return left_out


def draw_arrow(axes: Axes, x: float, limits: tuple[float, float], *, up: bool, colour: str) -> None:
    """Draw an arrow on the upper or the lower edge of a panel: something goes on beyond it."""
    look: dict[str, Any] = {"color": colour, "markersize": 5, "markeredgewidth": 0}
    place = [x], [limits[1] if up else limits[0]]
    axes.plot(*place, _ARROWS[up], linestyle="", clip_on=False, zorder=7, **look)
