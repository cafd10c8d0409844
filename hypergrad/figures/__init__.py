"""Figures drawn from run directories: which there are, and one function that draws them.

Importing this module is light: pandas and matplotlib are loaded by the first figure drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from hypergrad.figures.run_data import RunRecord


@dataclass(frozen=True)
class FigureSpec:
    """A figure by name.

    Attributes:
        name: What `hypergrad plot` calls it.
        title: What it shows.
        files: A pattern of files without which a run has nothing to draw.
        draw: Draws it, and returns the very data drawn.
    """

    name: str
    title: str
    files: str
    draw: Callable[[RunRecord], tuple[Figure, DataFrame]]


def figures_of(summary: Mapping[str, object]) -> tuple[str, ...]:
    """The figures that a run is drawn as, by what its `summary.json` says."""
    named = summary.get("figures")
    if isinstance(named, list):
        return tuple(str(name) for name in named)
    return _OF_EXPERIMENT.get(str(summary.get("experiment")), ())


def draw(name: str, run: Path, folder: Path | None = None) -> list[Path]:
    """Draw one figure from a run directory; the same data gives the same bytes.

    Args:
        name: a key of `FIGURES`.
        run: the run directory, finished or not.
        folder: where the files go; `run/figures` when not given.

    Returns:
        The paths of the PNG, the PDF and the CSV holding the very data drawn.

    Raises:
        ValueError: unknown figure, no such run, or a run without the figure's data.
    """
    if name not in FIGURES:
        raise ValueError(f"unknown figure {name!r}: choose from {', '.join(FIGURES)}")
    from hypergrad.figures import run_data, style

    spec = FIGURES[name]
    record = run_data.read_run(run)
    if record.experiment and name not in (own := figures_of(record.summary)):
        raise ValueError(
            f"{name} cannot be drawn from {run}, a run of {record.experiment!r}, which is drawn as "
            f"{' and '.join(own) or 'no figure'}: choose another run"
        )
    with style.house_style():
        figure, data = spec.draw(record)
        target = run / "figures" if folder is None else folder
        target.mkdir(parents=True, exist_ok=True)
        png, pdf, csv = (target / f"{name}.{suffix}" for suffix in ("png", "pdf", "csv"))
        # No time stamp: a redrawn figure differs only when its data do.
        figure.savefig(png, metadata={"Software": None})
        figure.savefig(pdf, metadata={"CreationDate": None})
    data.to_csv(csv, index=False, lineterminator="\n")
    return [png, pdf, csv]


def _draw_fig1(record: RunRecord) -> tuple[Figure, DataFrame]:
    from hypergrad.figures import fig1

    return fig1.draw_fig1(record)


def _draw_fig2(record: RunRecord) -> tuple[Figure, DataFrame]:
    from hypergrad.figures import fig2

    return fig2.draw_fig2(record)


def _draw_fig3(record: RunRecord) -> tuple[Figure, DataFrame]:
    from hypergrad.figures import fig3

    return fig3.draw_fig3(record)


def _draw_fig4(record: RunRecord) -> tuple[Figure, DataFrame]:
    from hypergrad.figures import fig4

    return fig4.draw_fig4(record)


def _draw_fig5(record: RunRecord) -> tuple[Figure, DataFrame]:
    from hypergrad.figures import fig5

    return fig5.draw_fig5(record)


# Runs made before a summary had the key `figures` are known by the name of their experiment.
_OF_EXPERIMENT = {
    "fig1": ("fig1", "fig4"),
    "quickstart": ("fig1", "fig4"),
    "fig2": ("fig2",),
    "fig3": ("fig3",),
    "table1": ("table1",),
    **dict.fromkeys(
        (f"baselines_{data}" for data in ("cifar10", "digits", "mnist", "svhn")), ("fig5",)
    ),
}
_SPECS = (
    FigureSpec("fig1", "Schedules learned from zero", "outer.csv", _draw_fig1),
    FigureSpec("fig2", "Hypervariance per inner step", "hypergradients.csv*", _draw_fig2),
    FigureSpec("fig3", "Learning rates with and without sharing", "*/*.csv", _draw_fig3),
    FigureSpec("fig4", "Raw hypergradients per outer step", "outer.csv", _draw_fig4),
    FigureSpec("fig5", "Settings searched and what they reached", "trials.csv", _draw_fig5),
)
FIGURES: dict[str, FigureSpec] = {spec.name: spec for spec in _SPECS}
