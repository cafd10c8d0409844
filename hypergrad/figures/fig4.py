"""Figure 4: the raw hypergradients behind Figure 1, outer step by outer step."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from hypergrad.figures import caption, style
from hypergrad.figures.run_data import RunRecord, floats, integers, where

_PANEL_HEIGHT = 1.35  # inches: 2.4 with a one-line legend and caption
_LEGEND_COLUMNS = 6
_SHORT_LABEL = 13  # characters: longer ones do not stand six in a row
_MARKERS = "osD^vP*"
_WHOLE_RUN = "#222222"
_MAX_LABELS = 7
_SPAN = 50  # largest over median beyond which a linear axis hides the bulk
_DECADES = 4  # below the largest value; what is smaller still is drawn on the linear part


def figure_4_table(record: RunRecord) -> pd.DataFrame:
    """Collect what Figure 4 draws: the first seed's rows of `outer.csv`.

    Args:
        record: the run.

    Returns:
        Columns kind, index, window (its name in the figure), seed, outer_step, hypergradient
        (as logged) and finite.

    Raises:
        ValueError: the run has not finished an outer step yet.
    """
    if record.outer.empty:
        raise ValueError(
            f"{record.path} has no hypergradient in outer.csv yet: wait for the first outer "
            "step, or choose another run with --run PATH"
        )
    seed = int(integers(record.outer, "seed").min())
    rows = where(record.outer, seed=seed).sort_values("outer_step", kind="stable")
    parts = []
    for kind in style.KIND_LABELS:
        of_kind = where(rows, kind=kind)
        for index in np.unique(integers(of_kind, "index")):
            line = where(of_kind, index=int(index))
            # Named by the last outer step's window: the first one's horizon may be cut short.
            start, end = (floats(line, column)[-1] for column in ("start_epoch", "end_epoch"))
            finite = np.isfinite(floats(line, "hypergradient"))
            parts.append(line.assign(window=_window_name(start, end), finite=finite))
    columns = ["kind", "index", "window", "seed", "outer_step", "hypergradient", "finite"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def draw_fig4(record: RunRecord) -> tuple[Figure, pd.DataFrame]:
    """Draw Figure 4: one panel a kind of hyperparameter, one line a value.

    Args:
        record: the run.

    Returns:
        The figure and the table of everything drawn in it.

    Raises:
        ValueError: the run has not finished an outer step yet.
    """
    table = figure_4_table(record)
    remarks = [caption.seeds_remark(record, int(integers(table, "seed")[0]))]
    text = caption.caption_text(record, remarks)
    below, above = caption.caption_height(text), caption.mark_height(record)
    looks = _looks(table)
    handles = _legend(table, looks)
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = _LEGEND_COLUMNS if longest <= _SHORT_LABEL else _LEGEND_COLUMNS - 2
    top = above + style.legend_height(len(handles), columns) + 0.27
    room = style.Margins(0.86, 0.1, below + 0.4, top, across=0.57)
    figure, panels = style.panel_grid(_PANEL_HEIGHT + room.bottom + room.top, (1, 3), room)
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
    # The panel is lower than this label is long: it may stand out a little at both ends.
    panels[0].set_ylabel("hypergradient of $L_{\\mathrm{val}}$,\naveraged over the window")
    style.legend_above(figure, handles, columns, above)
    caption.sign_figure(figure, record, text)
    return figure, table


def set_scale(axes: Axes, values: np.ndarray) -> str:
    """Choose a linear axis, or a symmetric logarithmic one where values span decades.

    Args:
        axes: the panel.
        values: `(K,)` finite hypergradients.

    Returns:
        The power of ten to add to the panel's title; empty where the axis says it.
    """
    sizes = np.abs(values[values != 0])
    largest = float(sizes.max()) if sizes.size else 1.0
    typical = float(np.median(sizes)) if sizes.size else 1.0
    if largest < _SPAN * typical:
        low, high = min(0.0, float(values.min(initial=0))), max(0.0, float(values.max(initial=0)))
        margin = 0.08 * (high - low) or 1.0
        limits = (low - margin, high + margin)
        axes.set_ylim(limits)
        if not sizes.size:
            axes.set_yticks([0.0], ["0"])
            return ""
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        return style.scale_axis(axes.yaxis, limits)
    smallest = max(float(np.quantile(sizes, 0.1)), largest * 10.0**-_DECADES)
    first, last = math.ceil(math.log10(smallest)), math.floor(math.log10(largest))
    axes.set_yscale("symlog", linthresh=10.0**first, linscale=0.6)
    powers = [10.0**e for e in range(last, first - 1, -math.ceil((last - first + 1) / 3))]
    low, high = float(values.min()), float(values.max())
    ticks = [-p for p in powers if low < 0] + [0.0] + [p for p in powers if high > 0]
    edge = 10.0**first
    axes.set_ylim(1.6 * min(low, -edge), 1.6 * max(high, edge))
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(_power_label))
    axes.yaxis.set_minor_locator(FixedLocator([]))
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


def _power_label(value: float, _position: int) -> str:
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    return rf"${sign}10^{{{round(math.log10(abs(value)))}}}$"
