"""Figure 4: the raw hypergradients behind Figure 1, outer step by outer step."""

from __future__ import annotations

import math
from itertools import groupby

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hypergrad.figures import caption, style
from hypergrad.figures.axes import linear_scale, symlog_scale
from hypergrad.figures.curves import (
    MOST_ENTRIES,
    basis_of,
    coefficient_names,
    is_vector,
    is_windows,
)
from hypergrad.figures.run_data import RunRecord, floats, integers, where

_HEIGHT = 2.6  # inches: with one row of panels
_ROW = 1.75  # inches: each further row
_COLUMNS = 4
_LEGEND_COLUMNS = 6
_LEGEND_ROWS, _LEGEND_ROW = 2, 0.16  # those that there is room for; inches of each further one
_SHORT_LABEL = 13  # characters: longer ones do not stand six in a row
_MARKERS = "osD^vP*"
_WHOLE_RUN = "#222222"
_CROWD = {"color": "#0072B2", "linewidth": 0.4, "alpha": 0.5}
_MAX_LABELS = 7
_SPAN = 50  # largest over median beyond which a linear axis hides the bulk
_DECADES = 4  # below the largest value; what is smaller still is drawn on the linear range


def figure_4_table(record: RunRecord) -> pd.DataFrame:
    """Collect the first seed's rows of `outer.csv`.

    Returns:
        Columns kind, index, window (its name in the figure; of a basis that has no windows, or
        of a vector, what the coefficient stands for), seed, outer_step, hypergradient (as logged)
        and finite.
    """
    if record.outer.empty:
        raise ValueError(
            f"{record.path} has no hypergradient in outer.csv yet: wait for the first outer "
            "step, or choose another run with --run PATH"
        )
    seed = int(integers(record.outer, "seed").min())
    rows = where(record.outer, seed=seed).sort_values("outer_step", kind="stable")
    lines = []
    for kind in record.hyperparameters:
        of_kind = where(rows, kind=kind)
        # Named by the last outer step: the first one's horizon may be cut short.
        names = {}
        for outer_step in np.unique(integers(of_kind, "outer_step")):
            own = where(of_kind, outer_step=int(outer_step)).sort_values("index")
            given = coefficient_names(basis_of(record, kind, own), own)
            names |= dict(zip(integers(own, "index"), given, strict=True))
        window = [names[index] for index in integers(of_kind, "index")]
        finite = np.isfinite(floats(of_kind, "hypergradient"))
        of_kind = of_kind.assign(window=window, finite=finite)
        lines.append(of_kind.sort_values("index", kind="stable"))
    columns = ["kind", "index", "window", "seed", "outer_step", "hypergradient", "finite"]
    return pd.concat(lines, ignore_index=True).reindex(columns=columns)


def draw(record: RunRecord) -> tuple[Figure, pd.DataFrame]:
    """Draw one panel a kind of hyperparameter, one line a value."""
    table, kinds = figure_4_table(record), record.hyperparameters
    bases = {kind: basis_of(record, kind, _last(record, kind)) for kind in set(table["kind"])}
    crowded = {k: b.size for k, b in bases.items() if is_vector(b) and b.size > MOST_ENTRIES}
    looks = _looks(table, [kind for kind in kinds if kind not in crowded])
    handles = _legend(table, looks, crowded)
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = _LEGEND_COLUMNS if longest <= _SHORT_LABEL else _LEGEND_COLUMNS - 2
    high = math.ceil(len(kinds) / _COLUMNS)
    wide = math.ceil(len(kinds) / high)  # rows of about equal length
    more = max(0, math.ceil(len(handles) / columns) - _LEGEND_ROWS)
    height = _HEIGHT + _ROW * (high - 1) + _LEGEND_ROW * more
    figure, panels = style.panel_grid(height, high, wide)
    for axes in panels[len(kinds) :]:
        axes.remove()
    for place, (axes, kind) in enumerate(zip(panels, kinds, strict=False)):
        rows = where(table, kind=kind)
        if kind in crowded:
            _draw_crowd(axes, rows)
        else:
            for _, line in rows.groupby("index", sort=False):
                _draw_line(axes, line, *looks[line["window"].iloc[0]])
        axes.axhline(0, color=style.GREY, linewidth=0.7, zorder=1)
        values = floats(rows, "hypergradient")
        unit = set_scale(axes, values[np.isfinite(values)])
        style.letter_panel(axes, style.letter_of(place))
        axes.set_title(style.label_of(kind) + unit)
        axes.set_xlabel("outer step")
        axes.set_xlim(-0.4, max(1, int(integers(table, "outer_step").max())) + 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    over = "the window" if all(map(is_windows, bases.values())) else "its steps"
    for axes in panels[: len(kinds) : wide]:
        axes.set_ylabel(f"hypergradient of $L_{{\\mathrm{{val}}}}$,\naveraged over {over}")
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


def _draw_crowd(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw a thin line for each entry of a long vector, in one go."""
    steps = rows.pivot(index="outer_step", columns="index", values="hypergradient")
    values = np.where(np.isfinite(steps), steps, np.nan).T
    gap = np.full((len(values), 1), np.nan)
    epochs = np.tile([*steps.index, np.nan], len(values))
    axes.plot(epochs, np.hstack([values, gap]).ravel(), zorder=3, **_CROWD)
    lost = np.unique(integers(rows, "outer_step")[~np.isfinite(floats(rows, "hypergradient"))])
    cross = {"color": _CROWD["color"], "markersize": 6, "markeredgewidth": 1.5}
    axes.plot(lost, np.zeros(lost.size), "x", zorder=4, **cross)


def _last(record: RunRecord, kind: str) -> pd.DataFrame:
    """The rows of a hyperparameter in the last outer step of the first seed."""
    rows = where(record.outer, seed=int(integers(record.outer, "seed").min()), kind=kind)
    return where(rows, outer_step=int(integers(rows, "outer_step").max()))


def _looks(table: pd.DataFrame, kinds: list[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each window; windows in order of time, whole runs last."""
    several: list[str] = []
    whole: list[str] = []
    for kind in kinds:
        windows = list(dict.fromkeys(where(table, kind=kind)["window"]))
        (several if len(windows) > 1 else whole).extend(windows)
    several, whole = list(dict.fromkeys(several)), list(dict.fromkeys(whole))
    if len(several) <= len(style.OKABE_ITO):
        colours = list(style.OKABE_ITO)
    else:
        colours = style.sequence_colours(len(several))
    looks = {w: (colours[i], _MARKERS[i % len(_MARKERS)]) for i, w in enumerate(several)}
    return {**looks, **{window: (_WHOLE_RUN, "o") for window in whole}}


def _legend(
    table: pd.DataFrame, looks: dict[str, tuple[str, str]], crowded: dict[str, int]
) -> list[Line2D]:
    handles = [
        Line2D([], [], label=window, color=colour, marker=marker)
        for window, (colour, marker) in _thin(looks)
    ]
    for kind, size in crowded.items():
        handles.append(Line2D([], [], label=f"{size} entries of {style.label_of(kind)}", **_CROWD))
    if not np.isfinite(floats(table, "hypergradient")).all():
        look = {"color": style.GREY, "marker": "x", "markeredgewidth": 1.5, "markersize": 6}
        handles.append(Line2D([], [], linestyle="", label="not finite", **look))
    return handles


def _thin(looks: dict[str, tuple[str, str]]) -> list[tuple[str, tuple[str, str]]]:
    """At most so many windows, at most so many knots, and so on; equally far apart."""
    thin = []
    for _, group in groupby(looks.items(), lambda entry: entry[0].split()[0]):
        entries = list(group)
        last = len(entries) - 1
        kept = sorted({round(i) for i in np.linspace(0, last, min(len(entries), _MAX_LABELS))})
        thin += [entries[i] for i in kept]
    return thin
