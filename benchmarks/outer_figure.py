"""A whole outer step at a glance: time against the number of values, memory against T."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from benchmarks.memory_figure import ALL_STATES, LOOKS, draw_panel
from hypergrad.figures import style

__all__ = ["draw_outer"]

MODEL = "lenet"
HEIGHT = 3.4  # inches


def draw_outer(times: Sequence[Path], memory: Path | None, picture: Path) -> None:
    """Draw what `outer` measured, and peaks that `memory` did.

    Args:
        times: CSVs of `outer`; LeNet is drawn where it is among the networks, else the first, at
            the horizon with the most values.
        memory: CSV of `memory`, or None.
        picture: Where to save.
    """
    rows = pd.concat([pd.read_csv(path) for path in times])
    model = MODEL if MODEL in set(rows["model"]) else rows["model"].iloc[0]
    rows = rows.query("model == @model")
    horizon = rows.groupby("horizon")["columns"].nunique().idxmax()
    rows = rows.query("horizon == @horizon and contender != 'plain'")
    peaks = None if memory is None else pd.read_csv(memory)
    shown = set(rows["contender"]) | (set() if peaks is None else set(peaks["mode"]))
    ways = [way for way in LOOKS if way in shown]
    with style.house_style():
        handles = [
            Line2D([], [], color=colour, marker=marker, label=label)
            for colour, marker, label in (LOOKS[way] for way in ways)
        ]
        figure, panels = style.panel_grid(HEIGHT, 1, 1 if peaks is None else 2)
        _draw_times(panels[0], rows, ways)
        panels[0].set_title(f"time: {model}, T = {horizon:,}")
        if peaks is not None:
            draw_panel(panels[1], peaks, ways)
            handles.append(ALL_STATES)
            panels[1].set_ylabel("peak memory, MiB\nbeyond the start")
            panels[1].set_title(f"memory: {peaks['model'].iloc[0]}, N = {peaks['columns'].iloc[0]}")
        style.legend_above(figure, handles, 4)
        figure.savefig(picture)


def _draw_times(axes: Axes, rows: pd.DataFrame, ways: Sequence[str]) -> None:
    for way in ways:
        found = rows[rows["contender"] == way].groupby("columns")["gradients"]
        low, middle, high = (found.quantile(q) for q in (0.25, 0.5, 0.75))
        colour, marker, _ = LOOKS[way]
        errors = [middle - low, high - middle]
        axes.errorbar(
            middle.index, middle, yerr=errors, color=colour, marker=marker, elinewidth=0.8
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(rows["columns"]))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(style.tick_format())
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(style.tick_format())
    axes.set_xlabel("learned values N")
    axes.set_ylabel("gradients an inner step\n(median, quartiles)")
