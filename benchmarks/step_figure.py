"""Milliseconds of an inner step against the number of columns, one panel a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from benchmarks.contenders import REPLAYED
from hypergrad.figures import style

__all__ = ["draw_steps", "two_gradients"]

LOOKS = {
    "reference": ("#000000", "s"),
    "loop": (style.OKABE_ITO[4], "D"),
    "vmap": (style.OKABE_ITO[1], "v"),
    "stacked": (style.OKABE_ITO[0], "o"),
    "fused": (style.OKABE_ITO[2], "^"),
    "compiled": (style.OKABE_ITO[6], "X"),
    "finite_differences": (style.OKABE_ITO[5], "P"),
    "reverse": (style.OKABE_ITO[3], "*"),
}
OTHER = (style.GREY, "P")
NAMES = {
    "reference": "reference: a second gradient a column",
    "finite_differences": "finite differences: 2N steps",
    "reverse": "reverse mode: there and back",
}
BOUND = "two gradients a column, and one"
HEIGHT = 3.3  # inches


def two_gradients(columns: int, gradient: float) -> float:
    """Return the time of `1 + 2 N` gradients.

    In matrix products, a Hessian product is two gradients' work; what remains can be shared.

    Args:
        columns: `N`.
        gradient: Time of one gradient.

    Returns:
        In the same unit.
    """
    return (1 + 2 * columns) * gradient


def draw_steps(measured: Sequence[Path], picture: Path) -> None:
    """Draw what `step` measured.

    Args:
        measured: Its CSVs.
        picture: Where to save.
    """
    rows = pd.concat([pd.read_csv(path) for path in measured])
    rows["milliseconds"] = 1e3 * rows["seconds"]
    models = list(dict.fromkeys(rows["model"]))
    columns = sorted(set(rows["columns"]))
    seen = [name for name in dict.fromkeys(rows["contender"]) if name != "gradient"]
    shown = sorted(seen, key=lambda name: list(LOOKS).index(name) if name in LOOKS else 99)
    with style.house_style():
        handles = [_handle(name) for name in shown]
        handles.append(Line2D([], [], color=style.GREY, linestyle="--", label=BOUND))
        figure, panels = style.panel_grid(HEIGHT, 1, len(models))
        for axes, model in zip(panels, models, strict=True):
            _draw_panel(axes, rows[rows["model"] == model], shown, columns)
            axes.set_title(f"{model}, batch {rows[rows['model'] == model]['batch_size'].iloc[0]}")
        panels[0].set_ylabel("ms a step\n(median, quartiles)")
        style.legend_above(figure, handles, 3)
        figure.savefig(picture)


def _draw_panel(axes: Axes, rows: pd.DataFrame, shown: list[str], columns: list[int]) -> None:
    for name in shown:
        of_way = rows[rows["contender"] == name].groupby("columns")["milliseconds"]
        low, middle, high = (of_way.quantile(q) for q in (0.25, 0.5, 0.75))
        errors = [middle - low, high - middle]
        axes.errorbar(middle.index, middle, yerr=errors, elinewidth=0.8, **_look(name))
    gradient = rows[rows["contender"] == "gradient"].groupby("columns")["milliseconds"].median()
    bound = [two_gradients(int(n), float(took)) for n, took in gradient.items()]
    axes.plot(gradient.index, bound, color=style.GREY, linestyle="--", zorder=1)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(columns))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(style.tick_format())
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlim(0.8 * columns[0], 1.25 * columns[-1])
    axes.set_xlabel("columns N")


def _handle(name: str) -> Line2D:
    return Line2D([], [], label=NAMES.get(name, name), **_look(name))


def _look(name: str) -> dict[str, Any]:
    """Colour and marker of a way; replayed, it is dotted and hollow."""
    way = name.removesuffix(REPLAYED)
    colour, marker = LOOKS.get(way, OTHER)
    hollow = {} if way == name else {"markerfacecolor": "white", "linestyle": ":"}
    return {"color": colour, "marker": marker, **hollow}
