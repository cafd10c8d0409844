"""Figure 5: the schedules that a search went through, and the accuracy that each one reached."""

from __future__ import annotations

import math
from string import ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hypergrad.figures import caption, style
from hypergrad.figures.accuracy_axis import AccuracyAxis, apply_axis, choose_axis, tighten_axis
from hypergrad.figures.fig5_accuracies import (
    BEST_RING,
    SYMBOLS,
    accuracy_legend,
    danger_colours,
    draw_scatter,
    draw_strip,
    rate_colours,
)
from hypergrad.figures.fig5_data import OVERALL, Figure5Data, Setting, figure_5_data
from hypergrad.figures.fig5_schedules import (
    BEST_WIDTH,
    accuracy_colours,
    draw_colour_bar,
    draw_schedules,
)
from hypergrad.figures.run_data import RunRecord

# Inches.
_UPPER, _LOWER = 1.5, 1.85  # heights of the rows
_DOWN = 0.78  # between rows: tick labels, axis label, title
_LEFT, _RIGHT, _BAR = 0.62, 0.1, 0.62  # beside the panels; right of them with a colour bar
_ACROSS, _NEAR = 0.66, 0.14  # between panels; between those that share an axis
_OVERALL_WEIGHT = 2  # its panel is as wide as that of so many values
_TITLE_PAD = 14.0  # points: room for a number under the letter
_LEGEND_COLUMNS = 3


def draw_fig5(record: RunRecord) -> tuple[Figure, pd.DataFrame]:
    """Draw Figure 5: the schedules searched above, the accuracies that they reached below.

    Args:
        record: the run of a grid or a random search.

    Returns:
        The figure and the table of everything drawn in it.

    Raises:
        ValueError: there is no finished trial yet, the search is one over hypergradient descent,
            or a file is damaged.
    """
    data = figure_5_data(record)
    axis = _accuracy_axis(data)
    text = caption.caption_text(record, _remarks(data, axis))
    handles = _legend(data)
    above = caption.mark_height(record)
    top = above + style.legend_height(len(handles), _LEGEND_COLUMNS) + 0.28
    bottom = caption.caption_height(text) + (0.42 if data.random else 0.56)
    figure = Figure(figsize=(style.WIDTH, top + _UPPER + _DOWN + _LOWER + bottom))
    upper = _upper_row(figure, data, axis, bottom + _LOWER + _DOWN)
    lower = _lower_row(figure, data, axis, bottom)
    if data.random:
        draw_colour_bar(upper[-1], axis, lower[0].get_yticks())
    for axes, letter in zip([*upper, *lower], ascii_lowercase, strict=False):
        style.letter_panel(axes, letter, _TITLE_PAD if axes in lower and not data.random else None)
    style.legend_above(figure, handles, _LEGEND_COLUMNS, above)
    caption.sign_figure(figure, record, text)
    return figure, data.table()


def _accuracy_axis(data: Figure5Data) -> AccuracyAxis:
    accuracies = np.array([setting.accuracy for setting in data.settings])
    bars = np.array([data.bar(setting) for setting in data.settings])
    whole = np.array([not setting.diverged for setting in data.settings])
    highest = min(1.0, float((accuracies + bars).max()))
    ends = np.concatenate([(accuracies - bars)[whole], (accuracies + bars)[whole]])
    return tighten_axis(choose_axis(accuracies, highest), np.clip(ends, 0, 1), highest)


def _upper_row(figure: Figure, data: Figure5Data, axis: AccuracyAxis, bottom: float) -> list[Axes]:
    weights = [1] * len(data.kinds)
    right = _BAR if data.random else _RIGHT
    panels = _panel_row(figure, weights, (bottom, _UPPER), _ACROSS, right)
    for axes, kind in zip(panels, data.kinds, strict=True):
        if data.random:
            colours = accuracy_colours(data, axis)
        elif kind == "learning_rate":
            colours = rate_colours(data)
        else:
            colours = dict.fromkeys((s.number for s in data.settings), style.GREY)
        draw_schedules(axes, data, kind, colours)
    return panels


def _lower_row(figure: Figure, data: Figure5Data, axis: AccuracyAxis, bottom: float) -> list[Axes]:
    draw, colours = draw_strip, rate_colours(data)
    weights = [len(data.searched(by)) if by != OVERALL else _OVERALL_WEIGHT for by in data.panels]
    if data.random:
        draw, colours = draw_scatter, danger_colours(data)
        weights = [1] * len(data.panels)
    panels = _panel_row(figure, weights, (bottom, _LOWER), _NEAR, _RIGHT)
    for axes, by in zip(panels, data.panels, strict=True):
        apply_axis(axes, axis)
        draw(axes, data, by, colours)
        axes.tick_params(labelleft=axes is panels[0])
    panels[0].set_ylabel(f"{_measure(data)} (%)")
    return panels


def _panel_row(
    figure: Figure, weights: list[int], place: tuple[float, float], across: float, right: float
) -> list[Axes]:
    """Panels side by side, as wide as their weights say; `place` is their bottom and height."""
    high = figure.get_figheight()
    free = style.WIDTH - _LEFT - right - across * (len(weights) - 1)
    panels, x = [], _LEFT
    for weight in weights:
        wide = free * weight / sum(weights)
        box = (x / style.WIDTH, place[0] / high, wide / style.WIDTH, place[1] / high)
        panels.append(figure.add_axes(box))
        x += wide + across
    return panels


def _measure(data: Figure5Data) -> str:
    return data.measure.replace("_", " ")


def _best(data: Figure5Data) -> Setting | None:
    return next((setting for setting in data.settings if setting.number == data.best), None)


def _legend(data: Figure5Data) -> list[Line2D]:
    handles = accuracy_legend(data)
    best = _best(data)
    if best is not None:
        label = f"best by validation: {_measure(data)} {100 * best.accuracy:.2f}"
        label += "" if math.isnan(best.std) else f" ± {100 * best.std:.2f}"
        line = Line2D([], [], color=style.GREY, label=f"{label} %", **BEST_RING)
        handles.insert(0, style.outline_line(line, BEST_WIDTH))
    return handles


def _remarks(data: Figure5Data, axis: AccuracyAxis) -> list[str]:
    count, seeds = len(data.settings), data.repeats
    decays = ", ".join(style.tidy_number(100 * share) for share in data.milestones)
    shapes = {
        "multistep": f"α starts at α₀ and is multiplied by η at {decays} % of the run",
        "cosine": "α falls from α₀ to 0 along a cosine",
        "constant": "α stays at α₀",
    }
    points = ["Points: settings" + (", means over seeds" if seeds > 1 else "")]
    if not data.random:
        bars = any(data.bar(setting) for setting in data.settings)
        lost = any(setting.diverged for setting in data.settings)
        points += ["coloured by α₀"] if "learning_rate" in data.panels else []
        points += ["bars: standard deviations where no seed diverged"] if bars else []
        points += ["numbers above: those with a diverged seed"] if lost else []
    knee = style.tidy_number(100 * axis.knee)
    best = _best(data)
    return [
        f"{count} setting{'s' * (count > 1)}, {seeds} seed{'s' * (seeds > 1)} each",
        shapes.get(data.schedule, ""),
        _written(data, data.settings[0], data.fixed),
        "; ".join(points),
        f"Scale of accuracies: expanded above {knee} %" if axis.knee > 0 else "",
        f"Best: setting {best.number}, {_written(data, best, tuple(SYMBOLS))}" if best else "",
    ]


def _written(data: Figure5Data, setting: Setting, names: tuple[str, ...]) -> str:
    """Values of a setting in words, with spaces that do not break where a line must not."""
    symbols = SYMBOLS if data.random else {**SYMBOLS, "learning_rate": "α₀"}
    words = {
        name: " ".join(style.tidy_number(float(f"{value:.3g}")) for value in setting.values[name])
        for name in names
    }
    return ", ".join(f"{symbols[name]}\xa0=\xa0{text}" for name, text in words.items() if text)
