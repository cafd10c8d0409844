"""Figure 1: the schedules learned, outer step by outer step, and the test accuracy reached."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hypergrad.figures import caption, style
from hypergrad.figures.accuracy_axis import apply_axis, choose_axis
from hypergrad.figures.axes import linear_scale, log_scale, needs_log
from hypergrad.figures.curves import MOST_ENTRIES
from hypergrad.figures.fig1_data import (
    ACCURACY,
    VALIDATION_LOSS,
    Figure1Data,
    Final,
    Line,
    accuracy_of,
    figure_1_data,
)
from hypergrad.figures.outside import draw_inside
from hypergrad.figures.run_data import RunRecord, floats

_ROW, _AROUND = 2.1, 0.8  # inches: a row of panels; legend and caption
# Where our values are all zero, the panel still needs a height.
_FLAT = {"weight_decay": 4e-4}
_FLAT_ELSE = 0.1
_FINAL_LOOK = {  # colour, marker, name, place right of the horizon
    "ours_retrained": (style.METHOD_COLOURS["ours"], "o", "ours, retrained", 1.04),
    "hd_retrained": (style.METHOD_COLOURS["hd"], "^", "HD, retrained", 1.08),
    "sgd": (style.METHOD_COLOURS["sgd"], "s", "plain SGD", 1.12),
    "start": (style.METHOD_COLOURS["start"], "D", "starting values", 1.12),
}
_HD_COLOUR = style.METHOD_COLOURS["hd"]
# Behind our lines: it often swings across the whole panel.
_HD_LOOK: dict[str, Any] = {
    **{"color": _HD_COLOUR, "linewidth": 0.9, "linestyle": (0.0, (4.0, 1.6)), "zorder": 1.5}
}
_RIVALS = {  # by the method: what stands beside ours
    "hd_retrained": "HD: moved at every step along one-step hypergradients; retrained: with its "
    "schedule, on all training images",
    "sgd": "Plain SGD: a schedule set by hand",
    "start": "Starting values: what the outer loop began with",
}
_BEST_WIDTH = 1.9  # points
_THIN = 0.4  # points
_LABEL_WIDTH = 26  # characters along a panel's height
_LEGEND_COLUMNS = 3


def draw(record: RunRecord) -> tuple[Figure, pd.DataFrame]:
    """Draw a panel for each hyperparameter, and one for test accuracy, over epochs."""
    data = figure_1_data(record)
    colours = style.sequence_colours(_outer_step_count(record, data))
    names = (*data.hyperparameters, ACCURACY)
    figure, panels = style.panels_in_two(_AROUND, _ROW, len(names))
    horizon = float(floats(record.outer, "end_epoch").max())
    left_out = 0
    for place, (axes, panel) in enumerate(zip(panels, names, strict=True)):
        lines = [line for line in data.lines if line.panel == panel]
        profile = any(line.entry is not None for line in lines) and all(map(_is_constant, lines))
        for line in lines:
            if line.outer_step is not None:
                _draw_line(axes, line, colours, profile)
        if profile:
            _set_entries(axes, lines)
        else:
            axes.set_xlim(0, horizon)
            axes.xaxis.set_major_formatter(style.tick_format())
            axes.set_xlabel("epoch")
        style.letter_panel(axes, style.letter_of(place))
        if panel == ACCURACY and accuracy_of(record) == VALIDATION_LOSS:
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
            axes.set_ylabel("validation loss")
        elif panel == ACCURACY:
            _finish_accuracy(axes, lines, data.finals, horizon)
        else:
            _finish_schedule(axes, lines, panel, data.held.get(panel, 0.0))
        # Where the panel ends is known now.
        for line in lines:
            if line.outer_step is None:
                left_out += draw_inside(axes, line.epoch, line.value, **_HD_LOOK)
    ticks = range(0, len(colours), math.ceil(len(colours) / 12))
    scale = style.colour_scale(colours)
    style.colour_bar(
        figure, panels, scale, "outer step", ticks, aspect=20 * math.ceil(len(names) / 2)
    )
    handles = _legend(data, colours)
    caption.sign_figure(figure, record, _remarks(record, data, left_out), handles, _LEGEND_COLUMNS)
    return figure, data.table()


def hd_note(lines: list[Line], limits: tuple[float, float]) -> str:
    """Say how far hypergradient descent leaves a panel; empty while it stays inside."""
    values = np.concatenate([line.value for line in lines if line.method == "hd"] or [np.empty(0)])
    ends = style.ends_outside(values, limits)
    return f"HD leaves the panel ({ends})" if ends else ""


def _draw_line(axes: Axes, line: Line, colours: list[str], profile: bool) -> None:
    assert line.outer_step is not None
    colour = colours[line.outer_step]
    # One point is no line: the first outer step may be logged once.
    alone = line.epoch.size == 1
    look = {"marker": "o" if alone else "", "markersize": 3, "clip_on": not alone, "zorder": 2}
    many = _entries(line) > MOST_ENTRIES and not profile
    if many:
        look |= {"linewidth": _THIN, "alpha": 0.4}
    elif profile and _entries(line) <= MOST_ENTRIES:
        look |= {"marker": "o"}
    epoch, value = _profile(line) if profile else _apart(line)
    axes.plot(epoch, value, color=colour, **look)
    if line.best:
        (thick,) = axes.plot(epoch, value, color=colour, zorder=4)
        if many:  # outlines would hide each other
            thick.set(linewidth=_THIN, color="black")
        else:
            style.outline_line(thick, _BEST_WIDTH)
    # A diverged run is crossed where its loss was lost; the accuracy may be lost with it.
    lost = np.flatnonzero(line.diverged)[:1]
    if lost.size:
        height = np.nan_to_num(line.value[lost])
        cross = {"markersize": 6, "markeredgewidth": 1.6, "clip_on": False, "zorder": 5}
        axes.plot(line.epoch[lost], height, "x", color=colour, **cross)


def _finish_schedule(axes: Axes, lines: list[Line], kind: str, held: float) -> None:
    learned = [line for line in lines if line.method == "ours" and line.value.size]
    ours = np.concatenate([line.value for line in learned] or [np.array([held])])
    finite = ours[np.isfinite(ours)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if needs_log(finite):
        limits, unit = log_scale(axes, low, high)
    else:
        flat = abs(low) * _FLAT_ELSE or _FLAT.get(kind, _FLAT_ELSE)
        limits, unit = linear_scale(axes.yaxis, low, high if high > low else low + flat)
    axes.set_ylabel(style.wrapped_label(kind, unit, _LABEL_WIDTH))
    if not learned:
        if held:
            axes.axhline(held, color=style.GREY, linewidth=0.9)
        style.note_panel(axes, f"{style.tidy_number(held) if held else 'zero'}: not learned")
        return
    note, entries = hd_note(lines, limits), max(_entries(line) for line in learned)
    if entries > 1 and not all(map(_is_constant, learned)):
        style.note_panel(axes, f"a line for each of {entries} entries")
    else:
        style.note_panel(axes, note, _HD_COLOUR)


def _entries(line: Line) -> int:
    """How many entries a vector has; 1 of a number."""
    return 1 if line.entry is None else 1 + int(line.entry[-1])


def _is_constant(line: Line) -> bool:
    """Whether no entry of a vector changes over the run; a number has none."""
    values = line.value.reshape(_entries(line), -1)
    return line.entry is not None and bool((values == values[:, :1]).all())


def _profile(line: Line) -> tuple[np.ndarray, np.ndarray]:
    """The entries of a vector that is constant over the run; many in order of their values."""
    values = line.value.reshape(_entries(line), -1)[:, 0]
    return np.arange(values.size), np.sort(values) if values.size > MOST_ENTRIES else values


def _set_entries(axes: Axes, lines: list[Line]) -> None:
    last = max(map(_entries, lines)) - 1
    axes.set_xlim(-0.02 * max(last, 1), 1.02 * max(last, 1))
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10], integer=True))
    axes.set_xlabel("entry" if last < MOST_ENTRIES else "entries, in order of value")


def _apart(line: Line) -> tuple[np.ndarray, np.ndarray]:
    """What is drawn in one go: the entries of a vector with a gap between them."""
    if line.entry is None:
        return line.epoch, line.value
    ends = np.flatnonzero(np.diff(line.entry)) + 1
    return np.insert(line.epoch, ends, np.nan), np.insert(line.value, ends, np.nan)


def _finish_accuracy(
    axes: Axes, lines: list[Line], finals: tuple[Final, ...], horizon: float
) -> None:
    # Hypergradient descent may be anywhere: it does not choose the scale.
    reached = [line.value[-1] for line in lines if line.method == "ours"]
    reached += [final.mean for final in finals if final.method != "hd_retrained"]
    ends = [final.mean for final in finals]
    for final in finals:
        if final.method != "hd_retrained" and not math.isnan(final.std):
            ends += [final.mean - final.std, final.mean + final.std]
    drawn = np.concatenate([*(line.value for line in lines), np.array(ends, dtype=float)])
    best = float(np.nan_to_num(np.array(reached, dtype=float)).max(initial=0.0))
    axis = choose_axis(best, drawn)
    style.note_panel(axes, apply_axis(axes, axis))
    axes.set_ylabel("test accuracy (%)")
    if not finals:
        return
    # The strip right of the line is no time: it holds the final results side by side.
    ticks = [tick for tick in axes.get_xticks() if 0 <= tick <= horizon * 1.0001]
    both = {"sgd", "start"} <= {final.method for final in finals}
    axes.set_xlim(0, horizon * (1.20 if both else 1.16))
    axes.set_xticks(ticks)
    axes.axvline(horizon, color=style.GREY, linewidth=0.6)
    for final in finals:
        colour, marker, _, place = _FINAL_LOOK[final.method]
        place += 0.04 * (both and final.method == "start")
        # No accuracy is below none of the images, or above all.
        room = [[final.mean], [1 - final.mean]]
        spread = None if math.isnan(final.std) else np.minimum(final.std, room)
        look = {"color": colour, "capsize": 2, "markersize": 4.5, "zorder": 6}
        axes.errorbar([horizon * place], [final.mean], yerr=spread, fmt=marker, **look)


def _legend(data: Figure1Data, colours: list[str]) -> list[Line2D]:
    handles = []
    best = [line.outer_step for line in data.lines if line.best and line.outer_step is not None]
    if best:
        label = f"best outer step ({best[0]}) by validation"
        line = Line2D([], [], label=label, color=colours[best[0]])
        handles.append(style.outline_line(line, _BEST_WIDTH))
    if any(line.method == "hd" for line in data.lines):
        handles.append(Line2D([], [], label="hypergradient descent (HD)", **_HD_LOOK))
    if any(line.method == "ours" and line.diverged.any() for line in data.lines):
        look = {"color": style.GREY, "markersize": 6, "markeredgewidth": 1.6}
        handles.append(Line2D([], [], linestyle="", marker="x", label="loss not finite", **look))
    for final in data.finals:
        colour, marker, name, _ = _FINAL_LOOK[final.method]
        label = f"{name} {_percent(final)}"
        look = {"color": colour, "markersize": 4.5}
        handles.append(Line2D([], [], linestyle="", marker=marker, label=label, **look))
    return handles


def _percent(final: Final) -> str:
    number = "no result" if math.isnan(final.mean) else f"{100 * final.mean:.2f}"
    if not math.isnan(final.std):
        number += f" ± {100 * final.std:.2f}"
    lost = f" ({final.diverged} of {final.seeds} diverged)" if final.diverged else ""
    return number + ("" if math.isnan(final.mean) else " %") + lost


def _remarks(record: RunRecord, data: Figure1Data, left_out: int) -> list[str]:
    seeds = caption.seeds_remark(record, data.seed)
    if any(not math.isnan(final.std) for final in data.finals):
        seeds += "; markers: mean ± standard deviation"
    size = data.steps_per_point
    rivals = [_RIVALS[final.method] for final in data.finals if final.method in _RIVALS]
    hd = any(line.method == "hd" for line in data.lines)
    points = [f"means of {size} steps"] if size > 1 else []
    points += [f"{left_out} short returns into a panel left out"] if left_out else []
    return [seeds, *rivals, ", ".join(["Dashed: HD", *points]) if hd and points else ""]


def _outer_step_count(record: RunRecord, data: Figure1Data) -> int:
    # The configured number, so that an unfinished run has its final colours already.
    configured = record.settings.get("outer_steps", "")
    logged = 1 + max(line.outer_step for line in data.lines if line.outer_step is not None)
    return max(logged, int(configured)) if configured.isdigit() else logged
