"""Figures drawn from run directories: which there are, and one function that draws them.

Importing this module is light: pandas and matplotlib are loaded by the first figure drawn.
"""

from __future__ import annotations

from collections.abc import Callable
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
        experiments: Whose runs it can be drawn from.
        files: A pattern of files without which a run has nothing to draw.
        draw: Draws it, and returns the very data drawn.
    """

    name: str
    title: str
    experiments: tuple[str, ...]
    files: str
    draw: Callable[[RunRecord], tuple[Figure, DataFrame]]


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
    if record.experiment and record.experiment not in spec.experiments:
        raise ValueError(
            f"{name} cannot be drawn from {run}, a run of {record.experiment!r}: "
            f"choose a run of {' or '.join(spec.experiments)}"
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


_LEARNED = ("fig1", "quickstart")
_SEARCHED = ("baselines_cifar10", "baselines_digits", "baselines_mnist", "baselines_svhn")
_SPECS = (
    FigureSpec("fig1", "Schedules learned from zero", _LEARNED, "outer.csv", _draw_fig1),
    FigureSpec(
        "fig2", "Hypervariance per inner step", ("fig2",), "hypergradients.csv*", _draw_fig2
    ),
    FigureSpec("fig3", "Learning rates with and without sharing", ("fig3",), "*/*.csv", _draw_fig3),
    FigureSpec("fig4", "Raw hypergradients per outer step", _LEARNED, "outer.csv", _draw_fig4),
    FigureSpec(
        "fig5", "Settings searched and what they reached", _SEARCHED, "trials.csv", _draw_fig5
    ),
)
FIGURES: dict[str, FigureSpec] = {spec.name: spec for spec in _SPECS}
