"""Figure 5: the schedules that a search went through, and the accuracy that each one reached."""

from __future__ import annotations

import math
from string import ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from hypergrad.figures import caption, style
from hypergrad.figures.accuracy_axis import LOG_NOTE, AccuracyAxis, apply_axis, choose_axis
from hypergrad.figures.fig5_data import OVERALL, SYMBOLS, Candidate, Figure5Data, figure_5_data
from hypergrad.figures.fig5_lower import (
    BEST_RING,
    accuracy_legend,
    danger_colours,
    draw_scatter,
    draw_strip,
    rate_colours,
)
from hypergrad.figures.fig5_upper import (
    BEST_WIDTH,
    accuracy_colours,
    accuracy_scale,
    draw_schedules,
)
from hypergrad.figures.run_data import RunRecord

_HEIGHT = 5.6  # inches
_OVERALL_WEIGHT = 2  # its panel is as wide as that of so many values
_TITLE_PAD = 14.0  # points: room for a number under the letter
_LEGEND_COLUMNS = 3


def draw(record: RunRecord) -> tuple[Figure, pd.DataFrame]:
    """Draw the schedules searched above, the accuracies that they reached below."""
    data = figure_5_data(record)
    axis = _accuracy_axis(data)
    figure = style.page_wide(_HEIGHT)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[0.85, 1]).flat
    upper, lower = _upper_row(above, data, axis), _lower_row(below, data, axis)
    if data.random:
        ticks = lower[0].get_yticks()
        bar = style.colour_bar(above, upper, accuracy_scale(axis), "accuracy (%)", ticks)
        bar.set_ticklabels([style.tidy_number(100 * tick) for tick in ticks])
    for axes, letter in zip([*upper, *lower], ascii_lowercase, strict=False):
        pad = _TITLE_PAD if axes in lower and not data.random else 6.0
        style.letter_panel(axes, letter, pad=pad)
    caption.sign_figure(figure, record, _remarks(data, axis), _legend(data), _LEGEND_COLUMNS)
    return figure, data.table()


def _accuracy_axis(data: Figure5Data) -> AccuracyAxis:
    accuracies = np.array([c.accuracy for c in data.candidates])
    bars = np.array([data.bar(c) for c in data.candidates])
    drawn = np.concatenate([accuracies - bars, accuracies + bars])
    return choose_axis(float(accuracies.max()), drawn)


def _upper_row(figure: SubFigure, data: Figure5Data, axis: AccuracyAxis) -> list[Axes]:
    panels = list(figure.subplots(1, len(data.kinds), squeeze=False).flat)
    for axes, kind in zip(panels, data.kinds, strict=True):
        if data.random:
            colours = accuracy_colours(data, axis)
        elif kind == "learning_rate":
            colours = rate_colours(data)
        else:
            colours = dict.fromkeys((c.number for c in data.candidates), style.GREY)
        draw_schedules(axes, data, kind, colours)
    return panels


def _lower_row(figure: SubFigure, data: Figure5Data, axis: AccuracyAxis) -> list[Axes]:
    draw_panel, colours = draw_strip, rate_colours(data)
    weights = [len(data.searched(by)) if by != OVERALL else _OVERALL_WEIGHT for by in data.panels]
    if data.random:
        draw_panel, colours = draw_scatter, danger_colours(data)
        weights = [1] * len(data.panels)
    grid = figure.subplots(1, len(weights), width_ratios=weights, squeeze=False)
    panels = list(grid.flat)
    for axes, by in zip(panels, data.panels, strict=True):
        apply_axis(axes, axis)
        draw_panel(axes, data, by, colours)
        axes.tick_params(labelleft=axes is panels[0])
    panels[0].set_ylabel(f"{_measure(data)} (%)")
    return panels


def _measure(data: Figure5Data) -> str:
    return data.measure.replace("_", " ")


def _best(data: Figure5Data) -> Candidate | None:
    return next((c for c in data.candidates if c.number == data.best), None)


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
    count, seeds = len(data.candidates), data.repeats
    decays = ", ".join(style.tidy_number(100 * share) for share in data.milestones)
    shapes = {
        "multistep": f"α starts at α₀ and is multiplied by η at {decays} % of the run",
        "cosine": "α falls from α₀ to 0 along a cosine",
        "constant": "α stays at α₀",
    }
    points = ["Points: settings" + (", means over seeds" if seeds > 1 else "")]
    if not data.random:
        bars = any(data.bar(c) for c in data.candidates)
        lost = any(c.diverged for c in data.candidates)
        points += ["coloured by α₀"] if "learning_rate" in data.panels else []
        points += ["bars: standard deviations where no seed diverged"] if bars else []
        points += ["numbers above: those with a diverged seed"] if lost else []
    best = _best(data)
    return [
        f"{count} setting{'s' * (count > 1)}, {seeds} seed{'s' * (seeds > 1)} each",
        shapes.get(data.schedule, ""),
        _written(data, data.candidates[0], data.fixed),
        "; ".join(points),
        f"Accuracies: {LOG_NOTE}" if axis.log else "",
        f"Best: setting {best.number}, {_written(data, best, tuple(SYMBOLS))}" if best else "",
    ]


def _written(data: Figure5Data, candidate: Candidate, names: tuple[str, ...]) -> str:
    """Values of a setting in words, with spaces that do not break where a line must not."""
    symbols = SYMBOLS if data.random else {**SYMBOLS, "learning_rate": "α₀"}
    words = {
        name: " ".join(style.tidy_number(float(f"{value:.3g}")) for value in candidate.values[name])
        for name in names
    }
    return ", ".join(f"{symbols[name]}\xa0=\xa0{text}" for name, text in words.items() if text)
