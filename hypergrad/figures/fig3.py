"""Figure 3: learning rates learned with and without sharing, and the accuracy that they reach."""

from __future__ import annotations

from string import ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hypergrad.figures import caption, style
from hypergrad.figures.accuracy_axis import apply_axis, choose_axis
from hypergrad.figures.axes import linear_scale
from hypergrad.figures.fig3_data import ACCURACY, LEARNED, SCHEDULE, Figure3Data, figure_3_data
from hypergrad.figures.outside import draw_arrow, draw_inside
from hypergrad.figures.run_data import RunRecord, floats, integers, where

_ROW, _AROUND = 2.3, 0.85  # inches: a row of panels; legend and caption
_TITLE_PAD = 13.0  # points: room for a note under the title
_BEST_WIDTH = 1.7  # points
_MANY = 50  # values of a schedule
_SMALLEST_SPAN = 0.1  # where all learned values are zero, the panel still needs a height
_COLOURS = style.METHOD_COLOURS
_MARKERS = {"shared": "o", "unshared": "s"}
_NAMES = {
    "shared": "shared: one value a window",
    "unshared": "unshared: one value a step",
    "hd": "hypergradient descent (hd)",
}
_DATA_TITLES = {"mnist": "MNIST", "svhn": "SVHN", "cifar10": "CIFAR-10"}
_LEGEND_COLUMNS = 3
_RING = {"markersize": 6, "markeredgecolor": "black", "markeredgewidth": 1.0}


def draw(record: RunRecord) -> tuple[Figure, pd.DataFrame]:
    """Draw a row of panels a data set: schedules shared and unshared, and accuracy."""
    data = figure_3_data(record)
    colours = style.sequence_colours(data.outer_steps)
    rows = len(data.data_sets)
    figure, panels = style.panel_grid(_AROUND + _ROW * rows, rows, 3)
    for row, name in enumerate(data.data_sets):
        three = panels[3 * row : 3 * row + 3]
        table = where(data.table, data=name)
        _draw_schedules(three[:2], where(table, panel=SCHEDULE), colours)
        _draw_accuracies(three[2], where(table, panel=ACCURACY), data.seeds[name][0])
        title = _DATA_TITLES.get(name, name)
        for axes, what in zip(three, (", shared", ", unshared", ""), strict=True):
            letter = ascii_lowercase[panels.index(axes) % 26]
            style.letter_panel(axes, letter, title + what, _TITLE_PAD)
    scale = style.colour_scale(colours)
    ticks = range(0, len(colours), _every(len(colours)))
    style.colour_bar(figure, panels[1::3], scale, "outer step", ticks)
    handles = _legend(data.table)
    caption.sign_figure(figure, record, _remarks(data), handles, _LEGEND_COLUMNS)
    return figure, data.table


def hd_note(values: np.ndarray, limits: tuple[float, float]) -> str:
    """Say how far hypergradient descent leaves the panels; empty while it stays inside.

    >>> hd_note(np.array([0.0, 2.5]), (0.0, 1.0))
    'hd leaves both panels (max 2.5)'
    """
    ends = style.ends_outside(values, limits)
    return f"hd leaves both panels ({ends})" if ends else ""


def _draw_schedules(pair: list[Axes], table: pd.DataFrame, colours: list[str]) -> None:
    hd = where(table, method="hd")
    learned = [where(table, method=method) for method in LEARNED]
    values = np.concatenate([floats(rows, "value") for rows in learned])
    values = values if values.size else floats(hd, "value")
    finite = values[np.isfinite(values)]
    low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
    high, limits, unit = max(high, low + _SMALLEST_SPAN), (0.0, 1.0), ""
    for axes, rows in zip(pair, learned, strict=True):
        for outer_step in np.unique(integers(rows, "outer_step")):
            _draw_outer_step(axes, where(rows, outer_step=outer_step), colours[outer_step])
        if rows.empty:
            style.note_inside(axes, "no outer step yet")
        axes.set_xlim(0, float(floats(table, "end").max(initial=1.0)))
        limits, unit = linear_scale(axes.yaxis, low, high, ticks=7)
        _draw_hd(axes, hd, limits)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True))
        axes.set_xlabel("inner step")
        best = where(rows, best=True)
        if len(best):
            best_step = int(integers(best, "outer_step")[0])
            style.note_panel(axes, f"best: {best_step}", pad=_TITLE_PAD)
    pair[0].set_ylabel(style.label_of("learning_rate") + unit)
    pair[1].tick_params(labelleft=False)
    # Said once, over both: the line and the limits are the same, and the note may be long.
    style.note_edge(pair[1], hd_note(floats(hd, "value"), limits), _COLOURS["hd"], right=True)


def _draw_hd(axes: Axes, rows: pd.DataFrame, limits: tuple[float, float]) -> None:
    """Draw hypergradient descent, whose values may lie anywhere, in a panel of given limits."""
    logged, smooth = _raw_and_smooth(rows)
    if not len(smooth):
        draw_inside(axes, *_stairs(logged), **_hd_look(zorder=4))
        return
    # Points, for lines that swing at every step would fill the panel.
    values, middle = floats(logged, "value"), (floats(logged, "x") + floats(logged, "end")) / 2
    faint = {"markersize": 1.6, "markeredgewidth": 0, "alpha": 0.6, "zorder": 1}
    axes.plot(middle, values, "o", color=_COLOURS["hd"], **faint)
    draw_inside(axes, *_stairs(smooth), **_hd_look(zorder=4))
    finite = np.where(np.isfinite(values), values, 0.0)
    for up, place in ((False, int(finite.argmin())), (True, int(finite.argmax()))):
        if not limits[0] <= finite[place] <= limits[1]:
            draw_arrow(axes, float(middle[place]), limits, up=up, colour=_COLOURS["hd"])


def _draw_outer_step(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    logged, smooth = _raw_and_smooth(rows)
    best = bool(np.any(rows["best"]))
    (line,) = axes.plot(*_stairs(logged), color=colour, linewidth=0.9, zorder=2)
    if len(logged) > _MANY:
        # So many steep flanks would hide each other, and the best outer step among them.
        line.set(linewidth=0.5, zorder=3) if best else line.set(linewidth=0.35, alpha=0.5)
    if best:
        (thick,) = axes.plot(*_stairs(smooth if len(smooth) else logged), color=colour, zorder=5)
        style.outline_line(thick, _BEST_WIDTH)


def _raw_and_smooth(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The values as logged, and their moving averages if there are any."""
    averaged = integers(rows, "averaged_steps") > 1
    return rows.take(np.flatnonzero(~averaged)), rows.take(np.flatnonzero(averaged))


def _stairs(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """A schedule is a step function: two points a value, at the start and the end of its use."""
    edges = np.stack([floats(rows, "x"), floats(rows, "end")], axis=1)
    return edges.ravel(), np.repeat(floats(rows, "value"), 2)


def _draw_accuracies(axes: Axes, table: pd.DataFrame, first_seed: int) -> None:
    reached: dict[str, float] = {}
    last = 1
    for method in LEARNED:
        of_method = where(table, method=method)
        for seed in np.unique(integers(of_method, "seed")):
            rows = where(of_method, seed=seed).sort_values("x")
            x, values = floats(rows, "x"), np.nan_to_num(floats(rows, "value"))
            first = seed == first_seed
            look = {"color": _COLOURS[method], "zorder": 3}
            fade = {"linewidth": 1.1} if first else {"linewidth": 0.6, "alpha": 0.45}
            small = {"marker": _MARKERS[method], "markersize": 1.6 if x.size > 15 else 2.6}
            axes.plot(x, values, **look, **fade, **(small if first or x.size == 1 else {}))
            _cross(axes, x, values, np.asarray(rows["diverged"], dtype=bool), method)
            best = np.asarray(rows["best"], dtype=bool)
            if first:
                ring = {"marker": _MARKERS[method], "linestyle": "", "zorder": 7}
                axes.plot(x[best], values[best], color=_COLOURS[method], **ring, **_RING)
            reached[method] = float(values.max(initial=reached.get(method, 0.0)))
            last = max(last, int(x.max(initial=0)))
    hd = where(table, method="hd", seed=first_seed)
    heights = np.nan_to_num(floats(hd, "value"))
    for value in heights:
        axes.axhline(value, **_hd_look(zorder=2))
    axes.set_xlim(-0.03 * last, 1.03 * last)
    end = np.full(heights.size, 1.03 * last)
    _cross(axes, end, heights, np.asarray(hd["diverged"], dtype=bool), "hd")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    axes.set_xlabel("outer step")
    axes.set_ylabel("validation accuracy (%)")
    # Hypergradient descent may be anywhere: it does not choose the scale.
    learned = floats(table.take(np.flatnonzero(np.isin(table["method"], LEARNED))), "value")
    drawn = np.concatenate([np.nan_to_num(learned), heights])
    axis = choose_axis(max(reached.values(), default=0.0), drawn)
    style.note_edge(axes, apply_axis(axes, axis), right=True)


def _cross(axes: Axes, x: np.ndarray, y: np.ndarray, lost: np.ndarray, method: str) -> None:
    if not lost.any():
        return
    look = {"markersize": 5, "markeredgewidth": 1.4, "clip_on": False, "zorder": 8}
    axes.plot(x[lost], y[lost], "x", color=_COLOURS[method], **look)


def _every(count: int) -> int:
    """The distance of the colour bar's ticks: at most six of them, at round numbers."""
    return next((size for size in (1, 2, 5, 10, 20, 50) if count <= 6 * size), count)


def _legend(table: pd.DataFrame) -> list[Line2D]:
    drawn = set(table["method"])
    handles = [
        Line2D([], [], color=_COLOURS[m], marker=_MARKERS[m], markersize=3.5, label=_NAMES[m])
        for m in LEARNED
        if m in drawn
    ]
    if "hd" in drawn:
        handles.append(Line2D([], [], label=_NAMES["hd"], **_hd_look()))
    if bool(np.any(table["best"])):
        look = {"marker": "o", "markersize": 5, "markeredgecolor": "black", "color": style.GREY}
        best = Line2D([], [], label="best outer step (by validation)", **look)
        handles.append(style.outline_line(best, _BEST_WIDTH))
    if bool(np.any(table["diverged"])):
        look = {"color": style.GREY, "markersize": 5, "markeredgewidth": 1.4}
        handles.append(Line2D([], [], linestyle="", marker="x", label="loss not finite", **look))
    return handles


def _remarks(data: Figure3Data) -> list[str]:
    several = [seeds for seeds in data.seeds.values() if len(seeds) > 1]
    remarks = []
    if several:
        seeds = several[0]
        which = f"Lines: seed {seeds[0]} of the {len(seeds)} seeds {caption.listed(seeds)}"
        remarks.append(f"{which}; faint: the others' accuracy")
    else:
        remarks += [f"Seed {seeds[0]}" for seeds in list(data.seeds.values())[:1] if seeds]
    if "hd" in set(data.table["method"]):
        remarks.append("hd: moved at every step along one-step hypergradients")
    averaged = sorted(set(integers(data.table, "averaged_steps")) - {1})
    if averaged:
        remarks.append(
            "Unshared (best outer step) and hd: moving averages over "
            f"{' and '.join(str(width) for width in averaged)} steps, values "
            "faint, arrows at the farthest outside"
        )
    for name, why in data.absent.items():
        remarks.append(f"{_DATA_TITLES.get(name, name)} is missing: {why.rstrip('.')}")
    return remarks


def _hd_look(**more: float) -> dict:
    return {"color": _COLOURS["hd"], "linewidth": 0.9, "linestyle": (0.0, (4.0, 1.6)), **more}
