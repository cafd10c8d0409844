"""Axes for values of any size: linear, symmetric logarithmic, and an accuracy axis with a knee.

The accuracy axis shows chance and still tells the good runs apart: it is expanded above a knee.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from hypergrad.figures.style import GREY, tidy_number, unit_of

TICKS = 3  # labelled powers of ten at most, on one side of zero

_LOWER_SHARE = 0.34  # of the axis' height, for what lies below the knee
_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_ERRORS = 2.5  # the expanded range reaches down to this multiple of the best error
_SMALLEST_ERROR = 0.004
_LOG_SPAN = 30.0  # largest over smallest
_LOG_ROOM = 1.3  # above and below, as a factor
_LOWEST_KNEE = 0.4  # the ticks below it need the room


def linear_scale(
    axis: Axis, low: float, high: float, *, margin: float = 0.07, flat: float = 0.1, ticks: int = 5
) -> tuple[tuple[float, float], str]:
    """Set limits around values, with few ticks, in units of a power of ten where that is shorter.

    Args:
        axis: an x or y axis.
        low: the smallest value.
        high: the largest one.
        margin: room on both sides, as a share of the span.
        flat: that room where all values are the same.
        ticks: so many at most.

    Returns:
        The limits, and what to add to the axis label: ` (×10⁻³)`, or nothing.
    """
    room = margin * (high - low) or flat
    limits = (low - room, high + room)
    (axis.axes.set_ylim if axis is axis.axes.yaxis else axis.axes.set_xlim)(limits)
    unit, words = unit_of(max(abs(limits[0]), abs(limits[1])))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tidy_number(value / unit)))
    axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    return limits, words


def needs_log(values: np.ndarray) -> bool:
    """Whether a linear axis would hide the small ones of values that are all above zero.

    >>> needs_log(np.array([1e-3, 0.1])), needs_log(np.array([0.0, 0.1]))
    (True, False)
    """
    return bool(values.size and values.min() > 0 and values.max() > _LOG_SPAN * values.min())


def log_scale(axes: Axes, low: float, high: float) -> tuple[tuple[float, float], str]:
    """Scale the y axis of a panel logarithmically around values above zero.

    Returns:
        The limits, and what to add to the axis label, as `linear_scale` does.
    """
    limits = (low / _LOG_ROOM, high * _LOG_ROOM)
    axes.set_yscale("log")
    axes.set_ylim(limits)
    axes.yaxis.set_minor_formatter(NullFormatter())
    powers = list(range(math.ceil(math.log10(limits[0])), math.floor(math.log10(limits[1])) + 1))
    if len(powers) > 2:
        powers = powers_between(powers[0], powers[-1], 5)
        axes.set_yticks([10.0**e for e in powers], [f"$10^{{{e}}}$" for e in powers])
        return limits, ""
    unit, words = unit_of(high)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tidy_number(value / unit)))
    axes.yaxis.set_minor_locator(NullLocator())
    return limits, words


def symlog_scale(axes: Axes, first: int, low: float, high: float, flat: float = 0.6) -> None:
    """Scale a panel logarithmically on both sides of zero, but for `±10**first` around it.

    That linear range is as high, on one side of zero, as `flat` decades.
    """
    edge = 10.0**first
    low, high = min(low, -edge), max(high, edge)
    axes.set_yscale("symlog", linthresh=edge, linscale=flat)
    axes.set_ylim(1.5 * low, 1.5 * high)
    powers = powers_between(first, math.floor(math.log10(max(-low, high))))
    ticks = {0.0: "0"}
    for sign, words, end in ((-1, "-", -low), (1, "", high)):
        inside = [e for e in powers if 10.0**e <= end * 1.001]
        ticks |= {sign * 10.0**e: rf"${words}10^{{{e}}}$" for e in inside}
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.yaxis.set_minor_locator(NullLocator())


def powers_between(first: int, last: int, most: int = TICKS) -> list[int]:
    """At most so many exponents from the first to the last, equally far apart."""
    return list(range(first, last + 1, max(1, math.ceil((last - first + 1) / most))))


class AccuracyAxis(NamedTuple):
    """Limits of the axis from 0 to `top`; above `knee` it is expanded, if `knee` is above 0."""

    knee: float
    top: float


def choose_axis(finals: np.ndarray, highest: float) -> AccuracyAxis:
    """Expand the axis where runs about as good as the best one lie, if that one is good.

    Of `(K,)` accuracies at the ends of runs; the `highest` drawn anywhere stays inside.

    >>> choose_axis(np.array([0.1, 0.9, 0.984]), 0.985).knee
    0.96
    """
    finite = finals[np.isfinite(finals)]
    if finite.size == 0:
        return AccuracyAxis(0.0, 1.0)
    error = max(1.0 - float(finite.max()), _SMALLEST_ERROR)
    lowest = 1.0 - _ERRORS * error
    if lowest < 0.5:
        return AccuracyAxis(0.0, 1.0)
    step = next((size for size in _STEPS if size >= 0.5 * error), _STEPS[-1])
    knee = round(step * math.floor(lowest / step + 1e-9), 6)
    return AccuracyAxis(knee, min(1.0, highest + 0.06 * (highest - knee)))


def tighten_axis(axis: AccuracyAxis, finals: np.ndarray, highest: float) -> AccuracyAxis:
    """Raise the knee to just below the accuracies of about the best one's size, if it is good.

    >>> tighten_axis(AccuracyAxis(0.7, 0.9), np.array([0.1, 0.826, 0.87]), 0.87).knee
    0.82
    """
    best = float(finals.max(initial=0.0))
    good = finals[finals > max(axis.knee, best / 2)]
    if not good.size:
        return axis
    # A single good run keeps some room below it.
    reach = max(best - float(good.min()), 0.2 * (1 - best), _SMALLEST_ERROR)
    step = next(size for size in _STEPS if size >= 0.2 * reach)
    knee = max(axis.knee, round(step * math.floor((best - reach) / step + 1e-9), 6))
    if knee < _LOWEST_KNEE:
        return axis
    return AccuracyAxis(knee, min(1.0, highest + 0.06 * (highest - knee)))


def apply_axis(axes: Axes, axis: AccuracyAxis) -> str:
    """Set scale, limits and ticks; return a note where the scale changes, else nothing."""
    if axis.knee <= 0:
        ticks = [float(tick) for tick in np.linspace(0, axis.top, 6)]
        note = ""
    else:
        axes.set_yscale("function", functions=(partial(height, axis), partial(value_at, axis)))
        axes.axhspan(0, axis.knee, color="#F1F1F1", linewidth=0, zorder=0)
        axes.axhline(axis.knee, color=GREY, linewidth=0.6, zorder=0.5)
        upper = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(axis.knee, axis.top)
        # A tick too near the knee would write its number over the knee's.
        space = 0.1 * (axis.top - axis.knee)
        ticks = [0.0, 0.5 if axis.knee > 0.7 else 0.3, axis.knee]
        ticks += [float(t) for t in upper if axis.knee + space < t <= axis.top]
        note = f"scale expanded above {tidy_number(100 * axis.knee)} %"
    axes.set_ylim(0, axis.top)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter([tidy_number(100 * t) for t in ticks]))
    axes.yaxis.set_minor_locator(FixedLocator([]))
    return note


def height(axis: AccuracyAxis, value: np.ndarray) -> np.ndarray:
    """The height in [0, 1] at which an axis with a knee draws a value.

    >>> float(height(AccuracyAxis(0.9, 1.0), np.array(0.9)))
    0.34
    """
    knots = ((0.0, axis.knee, axis.top), (0.0, _LOWER_SHARE, 1.0))
    return _two_lines(np.asarray(value), *knots)


def value_at(axis: AccuracyAxis, position: np.ndarray) -> np.ndarray:
    """The inverse of `height`."""
    knots = ((0.0, _LOWER_SHARE, 1.0), (0.0, axis.knee, axis.top))
    return _two_lines(np.asarray(position), *knots)


def _two_lines(
    x: np.ndarray, at: tuple[float, float, float], to: tuple[float, float, float]
) -> np.ndarray:
    # Unlike np.interp, both lines go on beyond the knots, as a scale must.
    low = to[0] + (x - at[0]) * (to[1] - to[0]) / (at[1] - at[0])
    high = to[1] + (x - at[1]) * (to[2] - to[1]) / (at[2] - at[1])
    return np.where(x < at[1], low, high)
