"""The lower row of Figure 5: what the settings of a search reached, by one hyperparameter each."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hypergrad.figures import style
from hypergrad.figures.fig5_data import LAST_RATE, OVERALL, Figure5Data, Setting
from hypergrad.figures.swarm import swarm

SYMBOLS = {"learning_rate": "α", "factor": "η", "momentum": "β", "weight_decay": "μ"}
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
_POINT, _FAR = 0.045, 0.12  # inches: how near two points of a swarm may come; of a few settings
_REACH = 0.43  # of a category's width: how far its swarm may spread to each side
_MANY = 8  # settings whose quarters have medians that say something


def draw_strip(axes: Axes, data: Figure5Data, by: str, colours: dict[int, str]) -> None:
    """Draw a swarm of settings for each value of a hyperparameter, or one of all.

    Args:
        axes: the panel; its vertical scale is set, for swarms are laid out in inches.
        data: the settings.
        by: one of `data.panels`.
        colours: by setting number.
    """
    values = [None] if by == OVERALL else data.searched(by)
    axes.set_xlim(-0.5, len(values) - 0.5)
    wide = axes.get_window_extent().width / axes.figure.dpi / len(values)
    for place, value in enumerate(values):
        group = [s for s in data.settings if value is None or s.value_by(by) == value]
        accuracies = np.array([setting.accuracy for setting in group])
        corners = np.column_stack([np.zeros(len(group)), accuracies])
        heights = axes.transData.transform(corners)[:, 1] / axes.figure.dpi
        x = place + swarm(heights, _FAR if data.few else _POINT, _REACH * wide) / wide
        bars = np.array([data.bar(setting) for setting in group])
        if bars.any():
            axes.vlines(x, accuracies - bars, accuracies + bars, colors=style.GREY, linewidth=0.7)
        _draw_points(axes, x, group, data.best, colours)
        if len(group) > 1:
            ends = [place - _REACH, place + _REACH]
            axes.plot(ends, [np.median(accuracies)] * 2, **_median_look(zorder=4))
        lost = sum(setting.diverged > 0 for setting in group)
        if lost:
            note = {"ha": "center", "fontsize": style.SMALL, "color": style.METHOD_COLOURS["hd"]}
            offset = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
            axes.annotate(str(lost), (place, 1), (0, 5), annotation_clip=False, **offset, **note)
    unit, words = style.unit_of(max(abs(value or 0.0) for value in values))
    labels = ["" if value is None else style.tidy_number(value / unit) for value in values]
    axes.set_xticks(range(len(values)), labels)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel(_STRIP_LABELS[by] + words)


def draw_scatter(axes: Axes, data: Figure5Data, by: str, colours: dict[int, str]) -> None:
    """Draw settings over a hyperparameter, and medians on both sides of its limit.

    Without a limit among the values, the medians are those of quarters of the settings.

    Args:
        axes: the panel; its vertical scale is set.
        data: the settings.
        by: one of `data.panels`.
        colours: by setting number.
    """
    x = np.array([setting.value_by(by) for setting in data.settings])
    y = np.array([setting.accuracy for setting in data.settings])
    _draw_points(axes, x, list(data.settings), data.best, colours)
    low, high = float(x.min()), float(x.max())
    edges = np.quantile(x, [0, 0.25, 0.5, 0.75, 1])
    if by in _LIMITS and low < _LIMITS[by] < high:
        edges = np.array([low, _LIMITS[by], high])
        axes.axvline(_LIMITS[by], color=style.GREY, linewidth=0.7, zorder=1)
    if x.size >= _MANY:
        for left, right in pairwise(edges):
            median = np.median(y[(left <= x) & (x <= right)])
            axes.plot([left, right], [median] * 2, **_median_look(zorder=4))
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    limits = (low - margin, high + margin)
    axes.set_xlim(limits)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    words = style.scale_axis(axes.xaxis, limits)
    several = by in data.settings[0].values and len(data.settings[0].values[by]) > 1
    label = "last learning rate α" if by == LAST_RATE else style.KIND_LABELS[by]
    axes.set_xlabel(("largest " if several else "") + label + words)


def rate_colours(data: Figure5Data) -> dict[int, str]:
    """Colours of settings by number: one for each initial learning rate."""
    rates = data.searched("learning_rate")
    colours = dict(zip(rates, style.sequence_colours(len(rates)), strict=True))
    return {s.number: colours[s.value_by("learning_rate")] for s in data.settings}


def danger_colours(data: Figure5Data) -> dict[int, str]:
    """Colours of settings by number, by which of their values could ruin a run."""
    return {setting.number: _DANGERS[_danger(setting)] for setting in data.settings}


def accuracy_legend(data: Figure5Data) -> list[Line2D]:
    """What the marks in the accuracy panels mean, as far as they are drawn."""
    settings = data.settings
    mark = {"linestyle": "", "marker": "o", "markersize": 4}
    handles = []
    if data.random:
        found = {_danger(setting) for setting in settings}
        for danger, colour in _DANGERS.items():
            if danger in found:
                handles.append(Line2D([], [], color=colour, label=danger, **mark))
    lost = sum(setting.diverged > 0 for setting in settings)
    if lost:
        label = f"a seed diverged ({lost} of {len(settings)})"
        look = {**mark, "marker": _MARKERS[True], "markersize": 5, "markeredgewidth": 0}
        handles.append(Line2D([], [], color=style.GREY, label=label, **look))
    if not all(setting.complete for setting in settings):
        hollow = {**mark, "markerfacecolor": "white", "color": style.GREY}
        handles.append(Line2D([], [], label="seeds missing", **hollow))
    if len(settings) >= (_MANY if data.random else 2):
        handles.append(Line2D([], [], label="median", **_median_look()))
    return handles


def _danger(setting: Setting) -> str:
    if setting.value_by("momentum") > _LIMITS["momentum"]:
        return _STEEP
    return _NEGATIVE if setting.value_by(LAST_RATE) < _LIMITS[LAST_RATE] else _SOUND


def _draw_points(
    axes: Axes, x: np.ndarray, settings: list[Setting], best: int | None, colours: dict[int, str]
) -> None:
    for place, setting in zip(x, settings, strict=True):
        colour = colours[setting.number]
        lost = setting.diverged > 0
        look = {"color": colour, "marker": _MARKERS[lost], "markersize": _SIZES[lost]}
        look |= {"markeredgewidth": 0.7, "linestyle": "", "clip_on": False, "zorder": 3}
        if not setting.complete:
            look["markerfacecolor"] = "white"
        if setting.number == best:
            axes.plot([place], [setting.accuracy], **BEST_RING, clip_on=False, zorder=5)
            look["zorder"] = 6
        axes.plot([place], [setting.accuracy], **look)


def _median_look(**more: float) -> dict:
    return {"color": "black", "linewidth": 1.3, "solid_capstyle": "butt", **more}
