"""The axis of accuracies: one smooth scale, logarithmic in the error where it is small."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator

from hypergrad.figures.style import tidy_number

LOG_NOTE = "log scale of the error"

_GOOD_ERROR = 0.2  # of the best: beyond it a linear axis shows all there is
_FINEST = 0.002  # added to the error, which may be none
_LOWEST_TOP = 0.5  # of a linear axis
_NARROWEST = 0.01  # where all that is drawn is the same
_ROOM = 0.06  # of the axis, above what is drawn and below
_APART = 0.075  # of the axis: ticks that are nearer write over each other
# Ticks of the logarithmic axis: the first go before the later ones.
_TICKS = (0.0, 0.9, 0.99, 0.5, 0.999, 0.98, 0.95, 0.8, 0.995, 0.998, 1.0)
_FEW = 4  # of those; fewer tell little


class AccuracyAxis(NamedTuple):
    """Ends of the axis, fractions; logarithmic in one less the accuracy, or linear."""

    low: float
    high: float
    log: bool


def choose_axis(best: float, drawn: np.ndarray) -> AccuracyAxis:
    """Choose an axis on which all that is drawn has a place, and good ones have room.

    Args:
        best: the best accuracy at the end of a run; NaN where there is none.
        drawn: `(K,)` accuracies drawn anywhere, some perhaps NaN.

    >>> choose_axis(0.6, np.array([0.1, 0.6])).log, choose_axis(0.98, np.array([0.1, 0.98])).log
    (False, True)
    """
    finite = np.clip(drawn[np.isfinite(drawn)], 0.0, 1.0)
    if not finite.size:
        return AccuracyAxis(0.0, 1.0, False)
    whole = AccuracyAxis(0.0, float(finite.max()) or 1.0, 1.0 - best <= _GOOD_ERROR)
    lowest = float(finite.min())
    if whole.log and lowest > 0.5:
        whole = whole._replace(low=min(lowest, whole.high - _NARROWEST))
        whole = whole._replace(low=float(value_at(whole, np.array(-_ROOM))))
    top = min(1.0, float(value_at(whole, np.array(1.0 + _ROOM))))
    # Noise at chance must not look like a climb.
    return whole._replace(high=top if whole.log else max(top, _LOWEST_TOP))


def apply_axis(axes: Axes, axis: AccuracyAxis) -> str:
    """Set scale, limits and ticks; return a note where the scale is not linear, else nothing."""
    if axis.log:
        axes.set_yscale("function", functions=(partial(height, axis), partial(value_at, axis)))
    axes.set_ylim(axis.low, axis.high)
    ticks = accuracy_ticks(axis)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter([tidy_number(100 * t) for t in ticks]))
    axes.yaxis.set_minor_locator(FixedLocator([]))
    return LOG_NOTE if axis.log else ""


def accuracy_ticks(axis: AccuracyAxis) -> list[float]:
    """Ticks that can be told apart.

    >>> accuracy_ticks(AccuracyAxis(0.0, 0.99, True))
    [0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99]
    """
    inside = [tick for tick in _TICKS if axis.low <= tick <= axis.high]
    if not axis.log or len(inside) < _FEW:
        even = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(axis.low, axis.high)
        inside = [round(float(t), 6) for t in even[::-1] if axis.low <= t <= axis.high + 1e-9]
    kept: list[float] = []
    for tick in inside:
        places = height(axis, np.array([*kept, tick]))
        if (np.abs(places[:-1] - places[-1]) >= _APART).all():
            kept.append(tick)
    return sorted(kept)


def height(axis: AccuracyAxis, value: np.ndarray) -> np.ndarray:
    """The height at which an axis draws a value: 0 at its lower end, 1 at its upper one."""
    low, high = _stretched(axis, np.array([axis.low, axis.high]))
    return (_stretched(axis, value) - low) / (high - low)


def value_at(axis: AccuracyAxis, position: np.ndarray) -> np.ndarray:
    """The inverse of `height`."""
    low, high = _stretched(axis, np.array([axis.low, axis.high]))
    stretched = low + np.asarray(position) * (high - low)
    if not axis.log:
        return stretched
    last = -math.log(_FINEST)
    within = 1.0 + _FINEST - np.exp(-np.minimum(stretched, last))
    return np.where(stretched <= last, within, 1.0 + _FINEST * (stretched - last))


def _stretched(axis: AccuracyAxis, value: np.ndarray) -> np.ndarray:
    """Minus the logarithm of the error; above an accuracy of one, a line: a scale has no end."""
    value = np.asarray(value, dtype=np.float64)
    if not axis.log:
        return value
    within = -np.log(1.0 + _FINEST - np.minimum(value, 1.0))
    return within + np.maximum(value - 1.0, 0.0) / _FINEST
