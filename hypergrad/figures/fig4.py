"""Figure 4: the raw hypergradients behind Figure 1, outer step by outer step."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hypergrad.figures import caption, style
from hypergrad.figures.axes import linear_scale, symlog_scale
from hypergrad.figures.run_data import RunRecord, floats, integers, where

_HEIGHT = 2.6  # inches
_LEGEND_COLUMNS = 6
_SHORT_LABEL = 13  # characters: longer ones do not stand six in a row
_MARKERS = "osD^vP*"
_WHOLE_RUN = "#222222"
_MAX_LABELS = 7
_SPAN = 50  # largest over median beyond which a linear axis hides the bulk
_DECADES = 4  # below the largest value; what is smaller still is drawn on the linear range


def figure_4_table(record: RunRecord) -> pd.DataFrame:
    """Collect the first seed's rows of `outer.csv`.

    Returns:
        Columns kind, index, window (its name in the figure), seed, outer_step, hypergradient
        (as logged) and finite.
    """
    if record.outer.empty:
        raise ValueError(
            f"{record.path} has no hypergradient in outer.csv yet: wait for the first outer "
            "step, or choose another run with --run PATH"
        )
    seed = int(integers(record.outer, "seed").min())
    rows = where(record.outer, seed=seed).sort_values("outer_step", kind="stable")
    lines = []
    for kind in style.KIND_LABELS:
        of_kind = where(rows, kind=kind)
        for index in np.unique(integers(of_kind, "index")):
            line = where(of_kind, index=int(index))
            # Named by the last outer step's window: the first one's horizon may be cut short.
            start, end = (floats(line, column)[-1] for column in ("start_epoch", "end_epoch"))
            finite = np.isfinite(floats(line, "hypergradient"))
            lines.append(line.assign(window=_window_name(start, end), finite=finite))
    columns = ["kind", "index", "window", "seed", "outer_step", "hypergradient", "finite"]
    return pd.concat(lines, ignore_index=True).reindex(columns=columns)


def draw(record: RunRecord) -> tuple[Figure, pd.DataFrame]:
    """Draw one panel a kind of hyperparameter, one line a value."""
    table = figure_4_table(record)
    looks = _looks(table)
    figure, panels = style.panel_grid(_HEIGHT, 1, 3)
    for axes, kind, letter in zip(panels, style.KIND_LABELS, "abc", strict=True):
        rows = where(table, kind=kind)
        for window in dict.fromkeys(rows["window"]):
            _draw_line(axes, where(rows, window=window), *looks[window])
        axes.axhline(0, color=style.GREY, linewidth=0.7, zorder=1)
        values = floats(rows, "hypergradient")
        unit = set_scale(axes, values[np.isfinite(values)])
        style.letter_panel(axes, letter)
        axes.set_title(style.KIND_LABELS[kind] + unit)
        axes.set_xlabel("outer step")
        axes.set_xlim(-0.4, max(1, int(integers(table, "outer_step").max())) + 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    panels[0].set_ylabel("hypergradient of $L_{\\mathrm{val}}$,\naveraged over the window")
    handles = _legend(table, looks)
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = _LEGEND_COLUMNS if longest <= _SHORT_LABEL else _LEGEND_COLUMNS - 2
    remarks = [caption.seeds_remark(record, int(integers(table, "seed")[0]))]
    caption.sign_figure(figure, record, remarks, handles, columns)
    return figure, table


def set_scale(axes: Axes, values: np.ndarray) -> str:
    """Choose a linear axis, or a symmetric logarithmic one where values span decades.

    Returns the power of ten to add to the panel's title; empty where the axis says it.
    """
    sizes = np.abs(values[values != 0])
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    if not sizes.size:
        axes.set_ylim(-1, 1)
        axes.set_yticks([0.0], ["0"])
        return ""
    largest = float(sizes.max())
    if largest < _SPAN * float(np.median(sizes)):
        return linear_scale(axes.yaxis, low, high, margin=0.08)[1]
    smallest = max(float(np.quantile(sizes, 0.1)), largest * 10.0**-_DECADES)
    symlog_scale(axes, math.ceil(math.log10(smallest)), low, high)
    return ""


def _draw_line(axes: Axes, line: pd.DataFrame, colour: str, marker: str) -> None:
    steps, values = integers(line, "outer_step"), floats(line, "hypergradient")
    finite = np.isfinite(values)
    size = 3.2 if steps.size <= 20 else 1.6
    drawn = np.where(finite, values, np.nan)  # an infinite one must not reach the axis
    axes.plot(steps, drawn, color=colour, marker=marker, markersize=size, zorder=3)
    cross = {"color": colour, "markersize": 6, "markeredgewidth": 1.5}
    axes.plot(steps[~finite], np.zeros(int((~finite).sum())), "x", zorder=4, **cross)


def _looks(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each window; windows in order of time, whole runs last."""
    several: list[str] = []
    whole: list[str] = []
    for kind in style.KIND_LABELS:
        windows = list(dict.fromkeys(where(table, kind=kind)["window"]))
        (several if len(windows) > 1 else whole).extend(windows)
    several, whole = list(dict.fromkeys(several)), list(dict.fromkeys(whole))
    if len(several) <= len(style.OKABE_ITO):
        colours = list(style.OKABE_ITO)
    else:
        colours = style.sequence_colours(len(several))
    looks = {w: (colours[i], _MARKERS[i % len(_MARKERS)]) for i, w in enumerate(several)}
    return {**looks, **{window: (_WHOLE_RUN, "o") for window in whole}}


def _legend(table: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> list[Line2D]:
    handles = [
        Line2D([], [], label=window, color=colour, marker=marker)
        for window, (colour, marker) in _thin(looks)
    ]
    if not np.isfinite(floats(table, "hypergradient")).all():
        look = {"color": style.GREY, "marker": "x", "markeredgewidth": 1.5, "markersize": 6}
        handles.append(Line2D([], [], linestyle="", label="not finite", **look))
    return handles


def _thin(looks: dict[str, tuple[str, str]]) -> list[tuple[str, tuple[str, str]]]:
    entries = list(looks.items())
    if len(entries) <= _MAX_LABELS:
        return entries
    kept = sorted({round(i) for i in np.linspace(0, len(entries) - 1, _MAX_LABELS)})
    return [entries[i] for i in kept]


def _window_name(start: float, end: float) -> str:
    first, last = (style.tidy_number(round(edge, 2)) for edge in (start, end))
    return f"epochs {first}\N{EN DASH}{last}"
