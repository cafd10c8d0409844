"""Figures and Table 1, from run directories: which there are, and a function that draws them.

Imports runs, core. Importing this module is light: the first figure drawn loads matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from hypergrad.runs.atomic import write_bytes_atomically
from hypergrad.runs.plain_files import check_tree

FORMATS = ("png", "pdf", "svg", "csv")
USUAL_FORMATS = ("png", "pdf", "csv")


@dataclass(frozen=True)
class FigureSpec:
    """What a figure shows, and a pattern of files without which a run has nothing to draw.

    The module of its name has `draw`, from a `RunRecord` to the figure and the very data drawn; if
    it is of `many` runs, from the folder that they are in.
    """

    title: str
    files: str
    many: bool = False


FIGURES = {
    "fig1": FigureSpec("Schedules learned from zero", "outer.csv"),
    "fig2": FigureSpec("Hypervariance per inner step", "hypergradients.csv*"),
    "fig2_mse": FigureSpec("Error of a value shared over a window", "hypergradients.csv*"),
    "fig3": FigureSpec("Learning rates with and without sharing", "*/*.csv*"),
    "fig4": FigureSpec("Raw hypergradients per outer step", "outer.csv"),
    "fig5": FigureSpec("Settings searched and what they reached", "trials.csv"),
    "improve": FigureSpec("A schedule before and after", "improve.json"),
    "spent": FigureSpec("Test score against trainings spent", "**/summary.json", many=True),
}
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


def figures_of(summary: Mapping[str, object]) -> tuple[str, ...]:
    """What a run is drawn as, by its `summary.json`: names of `FIGURES`, or `table1`."""
    named = summary.get("figures")
    names = _OF_EXPERIMENT.get(str(summary.get("experiment")), ())
    if isinstance(named, list):
        names = tuple(str(name) for name in named)
    # Older runs of Figure 2 have what its errors are drawn from, too.
    more = ("fig2_mse",) if "fig2" in names and "fig2_mse" not in names else ()
    return (*names, *more)


def check_formats(names: Sequence[str]) -> tuple[str, ...]:
    """Return the formats that are named, each once; the usual ones for none.

    Raises:
        ValueError: For one that no figure is drawn in.
    """
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise ValueError(f"unknown format {unknown[0]!r}: choose from {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(names)) or USUAL_FORMATS


def draw(
    name: str, run: Path, folder: Path | None = None, formats: Sequence[str] = USUAL_FORMATS
) -> list[Path]:
    """Draw one figure from a run directory; the same data gives the same bytes.

    Args:
        name: a key of `FIGURES`.
        run: the run directory, finished or not; of a figure of many runs, a folder of them.
        folder: where the files go; `run/figures` when not given.
        formats: of `FORMATS`, without a repetition.

    Returns:
        The paths of the files, one a format: a picture, or as CSV the very data drawn.

    Raises:
        ValueError: unknown figure, no such run, a run without the figure's data, or with links.
        OSError: the folder cannot be written.
    """
    drawn = pictures(name, run, formats)
    target = run / "figures" if folder is None else folder
    target.mkdir(parents=True, exist_ok=True)
    paths = [target / f"{name}.{suffix}" for suffix in drawn]
    for path, content in zip(paths, drawn.values(), strict=True):
        write_bytes_atomically(path, content)
    return paths


def pictures(name: str, run: Path, formats: Sequence[str]) -> dict[str, bytes]:
    """Draw one figure as `draw` does, and write nothing: the content of a file a format."""
    if name not in FIGURES:
        raise ValueError(f"unknown figure {name!r}: choose from {', '.join(FIGURES)}")
    from hypergrad.figures import run_data, style
    from hypergrad.figures.written import csv_text, figure_bytes

    source: run_data.RunRecord | Path = run
    if not FIGURES[name].many:
        check_tree(run)
        source = record = run_data.read_run(run)
        if name not in record.figures:
            own = f"it is drawn as {', '.join(record.figures)}"
            own = own if record.figures else "it has no figure"
            raise ValueError(f"{name} cannot be drawn from {run}: {own}; choose another run")
    with style.house_style():
        figure, data = import_module(f"hypergrad.figures.{name}").draw(source)
        return {
            suffix: csv_text(data).encode("utf-8")
            if suffix == "csv"
            else figure_bytes(figure, suffix)
            for suffix in formats
        }
