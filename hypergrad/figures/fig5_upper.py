"""The upper row of Figure 5: the schedules that a search went through."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm, ListedColormap, Normalize, to_hex
from matplotlib.ticker import NullLocator

from hypergrad.figures import style
from hypergrad.figures.accuracy_axis import AccuracyAxis, height, value_at
from hypergrad.figures.axes import linear_scale
from hypergrad.figures.fig5_data import Figure5Data

BEST_WIDTH = 1.9  # points
_SPAN = 30.0  # largest over smallest learning rate beyond which a linear axis hides the small ones
_APART = 0.1  # of an axis: how far apart all its values must be for each to be named


def draw_schedules(axes: Axes, data: Figure5Data, kind: str, colours: dict[int, str]) -> None:
    """Draw the schedules of one kind over epochs, the good ones on top of the bad ones."""
    for candidate in sorted(data.candidates, key=lambda candidate: candidate.accuracy):
        start, end, value = data.steps(candidate, kind)
        colour = colours[candidate.number]
        best = candidate.number == data.best
        if data.random and not best:
            # Without flanks, which would all stand at the same few epochs.
            axes.hlines(value, start, end, colors=[colour], linewidth=0.7, alpha=0.75, zorder=2)
            continue
        epochs = np.stack([start, end], axis=1).ravel()
        (line,) = axes.plot(epochs, np.repeat(value, 2), color=colour, zorder=3 if best else 2)
        if best:
            style.outline_line(line, BEST_WIDTH)
    _scale_values(axes, data, kind)
    axes.set_xlim(0, data.epochs)
    axes.xaxis.set_major_formatter(style.tick_format())
    axes.set_xlabel("epoch")


def accuracy_colours(data: Figure5Data, axis: AccuracyAxis) -> dict[int, str]:
    """Colours of settings by number: the darker the better, on the scale of the accuracy axis."""
    colours = accuracy_scale(axis).to_rgba(np.array([s.accuracy for s in data.candidates]))
    return {s.number: to_hex(colour) for s, colour in zip(data.candidates, colours, strict=True)}


def accuracy_scale(axis: AccuracyAxis) -> ScalarMappable:
    """The colours of accuracies."""
    low, high = axis.low, axis.high
    norm = Normalize(vmin=low, vmax=high)
    if axis.log:
        scale = partial(height, axis), partial(value_at, axis)
        norm = FuncNorm(scale, vmin=low, vmax=high)
    return ScalarMappable(norm, ListedColormap(style.sequence_colours(256)[::-1]))


def _scale_values(axes: Axes, data: Figure5Data, kind: str) -> None:
    levels = np.unique(np.concatenate([data.steps(s, kind).value for s in data.candidates]))
    low, high = float(levels[0]), float(levels[-1])
    if kind == "learning_rate" and not data.random and high > _SPAN * low > 0:
        # On this scale the steps of a decay by a factor are of equal height.
        axes.set_yscale("log")
        axes.set_ylim(low / 1.5, high * 1.5)
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylabel(style.label_of(kind))
        return
    flat = 0.1 * abs(high) or 0.1
    _, unit = linear_scale(axes.yaxis, low, high, flat=flat)
    axes.set_ylabel(style.label_of(kind) + unit)
    apart = float(np.diff(levels).min(initial=math.inf))
    if not data.random and apart >= _APART * (high - low):
        axes.set_yticks(levels)
