"""Figure 2 as an error: what sharing takes off the variance, and what it adds as bias."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from hypergrad.figures import caption, style
from hypergrad.figures.axes import powers_between
from hypergrad.figures.fig2 import perturbation_title
from hypergrad.figures.fig2_data import read_hypergradients
from hypergrad.figures.fig2_errors import sharing_errors
from hypergrad.figures.run_data import RunRecord, floats, where

_ROW, _AROUND = 1.75, 1.35  # inches: a row of panels; legend, axis label and caption
_TITLE_PAD = 13.0  # points: room for a note under the title
_LEAST = 1e-3  # what is smaller is drawn no further down
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_LINES = {  # column: name, colour, whether dashed
    "error": ("mean squared error (band: 95 %)", style.METHOD_COLOURS["shared"], False),
    "variance": ("variance", style.METHOD_COLOURS["unshared"], False),
    "bias": ("bias, squared", style.METHOD_COLOURS["hd"], False),
    "bound": ("bound of the error", style.GREY, True),
}


def draw(record: RunRecord) -> tuple[Figure, pd.DataFrame]:
    """Draw a panel a perturbation: error, variance and bias against the length of a window."""
    raw = read_hypergradients(record.path)
    table = sharing_errors(raw)
    names = list(dict.fromkeys(raw["perturbation"]))
    figure, panels = style.panels_in_two(_AROUND, _ROW, len(names))
    for place, (axes, name) in enumerate(zip(panels, names, strict=True)):
        title = perturbation_title(record, name)
        style.letter_panel(axes, style.letter_of(place), title, _TITLE_PAD)
        rows = where(table, perturbation=name)
        if rows.empty:
            axes.set_yticks([])
            style.note_inside(axes, "needs two finite repeats")
        else:
            _draw_errors(axes, rows)
        axes.set_xlabel("window W, inner steps")
    figure.align_ylabels(panels)
    handles = [
        Line2D([], [], color=colour, linestyle="--" if dashed else "-", label=label)
        for label, colour, dashed in _LINES.values()
    ]
    remarks = [
        f"{raw['repeat'].nunique()} repeats of each perturbation",
        "All relative to the error of a value a step, which is variance alone; at W the window's "
        "mean stands for each of its steps",
        "Bias without the noise of the repeats' own mean; where none is left the line ends",
        "Bound: (1 + c (W − 1))/W + L² (W² − 1)/(12 MSE₁), c the correlation of neighbouring "
        "steps, L the largest difference of their means",
    ]
    caption.sign_figure(figure, record, remarks, handles, len(handles))
    return figure, table


def _draw_errors(axes: Axes, rows: pd.DataFrame) -> None:
    width = floats(rows, "width")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.axhline(1, color=style.GREY, linewidth=0.6, zorder=1)
    low, high = (np.maximum(floats(rows, name), _LEAST) for name in ("low", "high"))
    if np.isfinite(low).all():
        colour = _LINES["error"][1]
        axes.fill_between(width, low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)
    for name, (_, colour, dashed) in _LINES.items():
        values = floats(rows, name)
        shown = np.where(values >= _LEAST, values, np.nan)
        wide = 1.5 if name == "error" else 1.0
        axes.plot(width, shown, "--" if dashed else "-", color=colour, linewidth=wide, zorder=3)
    most = float(np.nanmax([1.0, *high[np.isfinite(high)], *floats(rows, "error")]))
    axes.set_ylim(_LEAST, 3 * most)
    axes.set_xlim(1, width.max())
    axes.xaxis.set_major_locator(FixedLocator([each for each in _TICKS if each <= width.max()]))
    axes.xaxis.set_major_formatter(style.tick_format())
    axes.xaxis.set_minor_locator(NullLocator())
    powers = powers_between(-3, int(np.floor(np.log10(3 * most))), 5)
    axes.set_yticks([10.0**each for each in powers], [rf"$10^{{{each}}}$" for each in powers])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("relative to W = 1")
    best = rows.iloc[int(np.argmin(floats(rows, "error")))]
    note = f"least {style.tidy_number(float(f'{best.error:.2g}'))} at W = {int(best.width)}"
    style.note_edge(axes, note)
