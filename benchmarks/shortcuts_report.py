"""Tables and figure of `benchmarks.shortcuts`, from its CSV files alone."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from rich.console import Console
from rich.table import Table

from hypergrad.figures.style import GREY, OKABE_ITO, SMALL, house_style, panel_grid

__all__ = ["agreement_of", "draw", "print_report", "reached", "target_of"]

# `half` and `quarter`, products on some of each minibatch, stand in the record alone.
NAMES = {
    "full": "exact",
    "half": "half a batch",
    "quarter": "a quarter",
    "early": "short early horizons",
    "quarter_early": "a quarter, short early",
    "float64": "exact in float64",
    "other_order": "exact, other order",
    "bfloat16": "bfloat16",
}
COLOURS = dict(zip(NAMES, (*OKABE_ITO, "#000000"), strict=True))
MARGIN = 0.002  # of accuracy: a bit more than the standard error of 98 % on 10,000 images


def target_of(learning: pd.DataFrame) -> float:
    """Return the accuracy to reach: the exact method's final one (median), less a margin."""
    return float(_final(learning).query("variant == 'full'")["test_accuracy"].median()) - MARGIN


def reached(learning: pd.DataFrame, target: float) -> pd.DataFrame:
    """Return the first outer step of each variant and seed with an accuracy.

    Args:
        learning: As in `learning.csv`.
        target: Test accuracy of the training with the best schedule so far.

    Returns:
        Rows of `learning`, at most one a variant and seed.
    """
    there = learning[learning["test_accuracy"] >= target]
    return there.groupby(["variant", "seed"], sort=False).head(1)


def agreement_of(agreement: pd.DataFrame) -> pd.DataFrame:
    """Return how far hypergradients agree with the exact ones.

    Args:
        agreement: As in `agreement.csv`.

    Returns:
        For each way: the share of values with the sign of the exact ones, and the median of their
        relative error; values that are not finite disagree.
    """
    exact, found = agreement["exact"], agreement["hypergradient"]
    table = agreement.assign(
        sign=(np.sign(exact) == np.sign(found)) & (exact != 0),
        error=((found - exact).abs() / exact.abs()).fillna(np.inf),
    )
    groups = table.groupby("way", sort=False)
    return pd.DataFrame(
        {
            "values": groups.size(),
            "signs": groups["sign"].mean(),
            "error": groups["error"].median(),
            "largest": groups["error"].max(),
        }
    )


def print_report(learning: pd.DataFrame, agreement: pd.DataFrame) -> None:
    """Print both tables: medians over the seeds, and ranges.

    Args:
        learning: As in `learning.csv`.
        agreement: As in `agreement.csv`.
    """
    target = target_of(learning)
    final, there = _final(learning), reached(learning, target)
    table = Table("", "test accuracy %", "seconds", "products", f"seconds to {target:.2%}", "of")
    table.add_column(f"products to {target:.2%}")
    for name in final["variant"].unique():
        own, first = (rows[rows["variant"] == name] for rows in (final, there))
        table.add_row(
            NAMES[name],
            _spread(100 * own["test_accuracy"], ".2f"),
            _spread(own["seconds"], ".0f"),
            _spread(own["products"], ".0f"),
            _spread(first["seconds"], ".0f"),
            f"{len(first)}/{len(own)}",
            _spread(first["products"], ".0f"),
        )
    console = Console(width=150)
    console.print(table)
    if agreement.empty:
        return
    signs = Table("", "values", "same sign", "median error", "largest")
    for way, row in agreement_of(agreement).iterrows():
        cells = f"{row['signs']:.1%}", f"{row['error']:.2%}", f"{row['largest']:.0%}"
        signs.add_row(NAMES[str(way)], f"{row['values']:.0f}", *cells)
    console.print(signs)


def draw(learning: pd.DataFrame, agreement: pd.DataFrame, folder: Path) -> None:
    """Draw what is reached when, and how hypergradients compare.

    Args:
        learning: As in `learning.csv`.
        agreement: As in `agreement.csv`.
        folder: Where `shortcuts.png` goes.
    """
    with house_style():
        figure, panels = panel_grid(2.9, 1, 1 if agreement.empty else 2)
        _draw_learning(panels[0], learning)
        if not agreement.empty:
            _draw_agreement(panels[1], agreement)
        figure.savefig(folder / "shortcuts.png")


def _draw_learning(axes: Axes, learning: pd.DataFrame) -> None:
    for (name, seed), rows in learning.groupby(["variant", "seed"], sort=False):
        look = {"color": COLOURS[name], "linewidth": 0.8, "alpha": 0.8}
        label = NAMES[name] if seed == learning["seed"].min() else None
        axes.step(rows["seconds"], rows["test_accuracy"], where="post", label=label, **look)
        axes.plot(rows["seconds"].iloc[-1], rows["test_accuracy"].iloc[-1], "o", **look)
    target = target_of(learning)
    axes.axhline(target, color=GREY, linewidth=0.7, linestyle="--")
    good = learning["test_accuracy"].max()
    axes.set_ylim(good - 0.06, good + 0.004)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("processor time of learning (s)")
    axes.set_ylabel("retrained test accuracy, best so far")
    axes.set_title("a", loc="left", fontweight="bold")
    axes.legend(loc="lower right")


def _draw_agreement(axes: Axes, agreement: pd.DataFrame) -> None:
    """Each value's hypergradient by the exact one: 1 where they agree, under 0 a wrong sign."""
    ways = list(agreement["way"].unique())
    for place, way in enumerate(ways):
        rows = agreement[agreement["way"] == way]
        ratio = rows["hypergradient"] / rows["exact"]
        aside = np.linspace(-0.3, 0.3, len(ratio))
        axes.plot(place + aside, ratio, ".", color=COLOURS[way], markersize=3)
        right = f"{agreement_of(rows)['signs'].iloc[0]:.0%}"
        where = {"xycoords": ("data", "axes fraction"), "annotation_clip": False}
        axes.annotate(right, (place, 1.02), ha="center", fontsize=SMALL, **where)
    axes.set_yscale("symlog", linthresh=1)
    axes.axhline(1, color=GREY, linewidth=0.7, zorder=0)
    axes.axhline(0, color=GREY, linewidth=0.7, linestyle="--", zorder=0)
    labels = [NAMES[way].replace(", ", ",\n").replace(" in ", "\nin ") for way in ways]
    axes.set_xticks(range(len(ways)), labels, fontsize=SMALL)
    axes.set_ylabel("hypergradient / exact one")
    axes.set_title("b", loc="left", fontweight="bold", pad=12)
    axes.set_title("values with the sign of the exact one:", fontsize=SMALL, color=GREY, pad=12)


def _final(learning: pd.DataFrame) -> pd.DataFrame:
    return learning.groupby(["variant", "seed"], sort=False).tail(1)


def _spread(values: pd.Series, form: str) -> str:
    """The median, and in brackets the smallest and the largest."""
    if values.empty:
        return "-"
    return f"{values.median():{form}} ({values.min():{form}} to {values.max():{form}})"
