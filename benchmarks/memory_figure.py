"""Memory of an inner run beyond what it started with, against its number of steps."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from hypergrad.figures import style

__all__ = ["ALL_STATES", "LOOKS", "draw_memory", "draw_panel"]

LOOKS = {
    "forward": (style.METHOD_COLOURS["shared"], "o", "forward mode"),
    "reverse": (style.METHOD_COLOURS["unshared"], "s", "reverse mode, all states kept"),
    "checkpointed": (style.OKABE_ITO[1], "D", "reverse mode, 2√T states"),
    "graphs": (style.OKABE_ITO[6], "X", "reverse mode, graphs kept"),
    "torchopt": (style.OKABE_ITO[3], "v", "TorchOpt"),
    "higher": (style.OKABE_ITO[5], "^", "higher"),
    "finite_differences": (style.GREY, "P", "finite differences"),
    "plain": ("#000000", ".", "plain training"),
}
ALL_STATES = Line2D([], [], color=style.GREY, linestyle="--", label="T states")
HEIGHT = 3.3  # inches


def draw_memory(measured: Path, picture: Path) -> None:
    """Draw what `memory` measured.

    Args:
        measured: Its CSV.
        picture: Where to save.
    """
    rows = pd.read_csv(measured)
    models = list(dict.fromkeys(rows["model"]))
    modes = [mode for mode in LOOKS if mode in set(rows["mode"])]
    with style.house_style():
        handles = [
            Line2D([], [], color=colour, marker=marker, label=label)
            for colour, marker, label in (LOOKS[mode] for mode in modes)
        ]
        handles.append(ALL_STATES)
        figure, panels = style.panel_grid(HEIGHT, 1, len(models))
        for axes, model in zip(panels, models, strict=True):
            draw_panel(axes, rows.query("model == @model"), modes)
            axes.set_title(model)
        panels[0].set_ylabel("MiB beyond the start\n(median, extremes)")
        style.legend_above(figure, handles, 4)
        figure.savefig(picture)


def draw_panel(axes: Axes, rows: pd.DataFrame, modes: Sequence[str]) -> None:
    """Draw peaks beyond the start against the number of steps, of the modes that were measured."""
    rows = rows.assign(extra=(rows["peak"] - rows["before"]) / 2**20)
    for mode in (mode for mode in modes if mode in set(rows["mode"])):
        extra = rows[rows["mode"] == mode].groupby("horizon")["extra"]
        low, middle, high = extra.min(), extra.median(), extra.max()
        colour, marker, _ = LOOKS[mode]
        axes.errorbar(
            middle.index,
            middle,
            yerr=[middle - low, high - middle],
            color=colour,
            marker=marker,
            elinewidth=0.8,
        )
    horizons = sorted(set(rows["horizon"]))
    states = [horizon * rows["state"].iloc[0] / 2**20 for horizon in horizons]
    axes.plot(horizons, states, color=style.GREY, linestyle="--", zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(horizons))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(style.tick_format())
    axes.set_xlabel("inner steps T")
