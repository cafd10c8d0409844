"""Axes for values of any size: linear, logarithmic, symmetric logarithmic."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from hypergrad.figures.style import tidy_number, unit_of

TICKS = 3  # labelled powers of ten at most, on one side of zero

_LOG_SPAN = 30.0  # largest over smallest
_LOG_ROOM = 1.3  # above and below, as a factor


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
