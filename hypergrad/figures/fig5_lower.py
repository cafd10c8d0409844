"""The lower row of Figure 5: what the settings of a search reached, by one hyperparameter each."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from hypergrad.figures import style
from hypergrad.figures.axes import linear_scale
from hypergrad.figures.fig5_data import LAST_RATE, OVERALL, Candidate, Figure5Data

_STRIP_LABELS = {
    "learning_rate": "learning rate\nα₀",
    "factor": "decay factor\nη",
    "momentum": "momentum\nβ",
    "weight_decay": "weight decay\nμ",
    OVERALL: "all settings",
}
# Where a single value can ruin a whole run, and the colours of settings that have one there.
_LIMITS = {LAST_RATE: 0.0, "momentum": 1.0}
_STEEP, _NEGATIVE, _SOUND = "β > 1", "β ≤ 1, last α < 0", "β ≤ 1, last α ≥ 0"
_DANGERS = {
    _SOUND: style.OKABE_ITO[0],
    _NEGATIVE: style.OKABE_ITO[1],
    _STEEP: style.OKABE_ITO[5],
}
_MARKERS = {False: "o", True: "X"}  # by whether a seed diverged
_SIZES = {False: 3.0, True: 3.8}  # points
BEST_RING = {
    "marker": "o",
    "markersize": 7.0,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "markeredgewidth": 1.2,
}
_REACH = 0.4  # of a category's width: how far its points are spread to each side
_GOLDEN = 0.618034  # multiples of it, modulo one, keep the most room between neighbours
_MANY = 8  # settings whose quarters have medians that say something


def draw_strip(axes: Axes, data: Figure5Data, by: str, colours: dict[int, str]) -> None:
    """Draw a strip of points for each value of a hyperparameter, or one of all; `by` as a panel."""
    values = [None] if by == OVERALL else data.searched(by)
    axes.set_xlim(-0.5, len(values) - 0.5)
    for place, value in enumerate(values):
        group = [c for c in data.candidates if value is None or c.value_by(by) == value]
        accuracies = np.array([candidate.accuracy for candidate in group])
        x = place + spread(accuracies)
        bars = np.array([data.bar(candidate) for candidate in group])
        if bars.any():
            low, high = np.clip([accuracies - bars, accuracies + bars], 0.0, 1.0)
            axes.vlines(x, low, high, colors=style.GREY, linewidth=0.7)
        _draw_points(axes, x, group, data.best, colours)
        if len(group) > 1:
            ends = [place - _REACH, place + _REACH]
            axes.plot(ends, [np.median(accuracies)] * 2, **_median_look(zorder=4))
        lost = sum(candidate.diverged > 0 for candidate in group)
        if lost:
            note = {"ha": "center", "fontsize": style.SMALL, "color": style.METHOD_COLOURS["hd"]}
            offset = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
            axes.annotate(str(lost), (place, 1), (0, 5), annotation_clip=False, **offset, **note)
    unit, words = style.unit_of(max(abs(value or 0.0) for value in values))
    labels = ["" if value is None else style.tidy_number(value / unit) for value in values]
    axes.set_xticks(range(len(values)), labels)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel(_STRIP_LABELS[by] + words)


def spread(accuracies: np.ndarray) -> np.ndarray:
    """Move points sideways, the best in the middle and those next to it in height far from it.

    >>> spread(np.array([0.5, 0.9, 0.5])).round(2).tolist()
    [-0.31, 0.0, 0.19]
    """
    order = np.argsort(np.argsort(-accuracies, kind="stable"))
    return 2 * _REACH * ((order * _GOLDEN + 0.5) % 1 - 0.5)


def draw_scatter(axes: Axes, data: Figure5Data, by: str, colours: dict[int, str]) -> None:
    """Draw settings over a hyperparameter, and medians on both sides of its limit.

    Without a limit among the values, the medians are those of quarters of the settings.
    """
    x = np.array([candidate.value_by(by) for candidate in data.candidates])
    y = np.array([candidate.accuracy for candidate in data.candidates])
    _draw_points(axes, x, list(data.candidates), data.best, colours)
    low, high = float(x.min()), float(x.max())
    edges = np.quantile(x, [0, 0.25, 0.5, 0.75, 1])
    if by in _LIMITS and low < _LIMITS[by] < high:
        edges = np.array([low, _LIMITS[by], high])
        axes.axvline(_LIMITS[by], color=style.GREY, linewidth=0.7, zorder=1)
    if x.size >= _MANY:
        for left, right in pairwise(edges):
            median = np.median(y[(left <= x) & (x <= right)])
            axes.plot([left, right], [median] * 2, **_median_look(zorder=4))
    flat = 0.1 * abs(high) or 0.1
    _, words = linear_scale(axes.xaxis, low, high, margin=0.06, flat=flat, ticks=4)
    several = by in data.candidates[0].values and len(data.candidates[0].values[by]) > 1
    label = "last learning rate α" if by == LAST_RATE else style.label_of(by)
    axes.set_xlabel(("largest " if several else "") + label + words)


def rate_colours(data: Figure5Data) -> dict[int, str]:
    """Colours of settings by number: one for each initial learning rate."""
    rates = data.searched("learning_rate")
    colours = dict(zip(rates, style.sequence_colours(len(rates)), strict=True))
    return {s.number: colours[s.value_by("learning_rate")] for s in data.candidates}


def danger_colours(data: Figure5Data) -> dict[int, str]:
    """Colours of settings by number, by which of their values could ruin a run."""
    return {candidate.number: _DANGERS[_danger(candidate)] for candidate in data.candidates}


def accuracy_legend(data: Figure5Data) -> list[Line2D]:
    """What the marks in the accuracy panels mean, as far as they are drawn."""
    candidates = data.candidates
    mark = {"linestyle": "", "marker": "o", "markersize": 4}
    handles = []
    if data.random:
        found = {_danger(candidate) for candidate in candidates}
        for danger, colour in _DANGERS.items():
            if danger in found:
                handles.append(Line2D([], [], color=colour, label=danger, **mark))
    lost = sum(candidate.diverged > 0 for candidate in candidates)
    if lost:
        label = f"a seed diverged ({lost} of {len(candidates)})"
        look = {**mark, "marker": _MARKERS[True], "markersize": 5, "markeredgewidth": 0}
        handles.append(Line2D([], [], color=style.GREY, label=label, **look))
    if not all(candidate.complete for candidate in candidates):
        hollow = {**mark, "markerfacecolor": "white", "color": style.GREY}
        handles.append(Line2D([], [], label="seeds missing", **hollow))
    if len(candidates) >= (_MANY if data.random else 2):
        handles.append(Line2D([], [], label="median", **_median_look()))
    return handles


def _danger(candidate: Candidate) -> str:
    if candidate.value_by("momentum") > _LIMITS["momentum"]:
        return _STEEP
    return _NEGATIVE if candidate.value_by(LAST_RATE) < _LIMITS[LAST_RATE] else _SOUND


def _draw_points(
    axes: Axes, x: np.ndarray, group: list[Candidate], best: int | None, colours: dict[int, str]
) -> None:
    for place, candidate in zip(x, group, strict=True):
        colour = colours[candidate.number]
        lost = candidate.diverged > 0
        look = {"color": colour, "marker": _MARKERS[lost], "markersize": _SIZES[lost]}
        look |= {"markeredgewidth": 0.7, "linestyle": "", "clip_on": False, "zorder": 3}
        if not candidate.complete:
            look["markerfacecolor"] = "white"
        if candidate.number == best:
            axes.plot([place], [candidate.accuracy], **BEST_RING, clip_on=False, zorder=5)
            look["zorder"] = 6
        axes.plot([place], [candidate.accuracy], **look)


def _median_look(**more: float) -> dict:
    return {"color": "black", "linewidth": 1.3, "solid_capstyle": "butt", **more}
