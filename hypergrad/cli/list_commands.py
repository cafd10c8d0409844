"""The commands that only read: list runs, list data sets, draw figures. None needs a GPU."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hypergrad.runs.directory import RunDirectory, find_runs

__all__ = ["list_data", "list_runs", "plot", "table"]


def list_runs(outputs: Path) -> None:
    """Print all runs with status, progress and headline result.

    Args:
        outputs: Folder of all runs.
    """
    runs = find_runs(outputs)
    if not runs:
        print(f"no runs under {outputs}: start one with `hypergrad run quickstart`")
        return
    table = Table("run", "status", "done", "result")
    table.columns[0].no_wrap = True  # to be copied: never cut short
    table.columns[0].min_width = max(len(_name(run)) for run in runs)
    for run in runs:
        summary = {} if run.status() == "damaged" else run.read_summary()
        fraction = summary.get("progress", {}).get("fraction")
        table.add_row(
            _name(run),
            run.status(),
            "-" if fraction is None else f"{100 * fraction:.0f} %",
            summary.get("headline") or summary.get("message") or "-",
        )
    Console().print(table)


def _name(run: RunDirectory) -> str:
    return f"{run.path.parent.name}/{run.path.name}"


def list_data(root: Path | None) -> None:
    """Print the named data sets, their sizes and places.

    Args:
        root: Data root, or None for the default.
    """
    from hypergrad.data import available

    table = Table("name", "what", "train", "test", "state", "where")
    table.columns[-1].overflow = "fold"
    for source in available(root):
        table.add_row(
            source.name,
            source.title,
            str(source.n_train or "-"),
            str(source.n_test or "-"),
            source.state,
            str(source.location),
        )
    Console().print(table)


def plot(names: Sequence[str], run: Path | None, outputs: Path) -> None:
    """Draw figures and print their paths.

    Args:
        names: Figures; none for every one that has a run.
        run: Run directory; None for the newest run of each figure.
        outputs: Folder of all runs.

    Raises:
        ValueError: For an unknown figure, or one without a run to draw it from.
    """
    from hypergrad.figures import FIGURES, draw

    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        raise ValueError(f"unknown figure {', '.join(unknown)}: use one of {', '.join(FIGURES)}")
    drawn = 0
    for name in names or FIGURES:
        source = (
            RunDirectory.open(run).path
            if run is not None
            else _newest(name, FIGURES[name].files, outputs)
        )
        if source is None:
            if names:
                raise ValueError(
                    f"no run under {outputs} to draw {name} from: start one, as with "
                    "`hypergrad run quickstart`, or give --run"
                )
            continue
        try:
            print(f"{name}: {draw(name, source)[0]}")
        except ValueError as error:
            if names:
                raise
            print(f"{name}: not drawn: {error}", file=sys.stderr)
        drawn += 1
    if not drawn:
        raise ValueError(f"no runs under {outputs}: start one with `hypergrad run quickstart`")


def table(runs: Sequence[Path], outputs: Path, form: str) -> None:
    """Print Table 1.

    Args:
        runs: Directories of tables or of their cells; none for the newest table.
        outputs: Folder of all runs.
        form: `terminal`, `markdown`, `csv` or `latex`.

    Raises:
        ValueError: If there is no run, or none of such a kind.
    """
    from hypergrad.figures.table1 import render
    from hypergrad.figures.table1_data import read_cells

    paths = list(runs)
    if not paths:
        newest = _newest("table1", "summary.json", outputs)
        if newest is None:
            raise ValueError(
                f"no run of table1 under {outputs}: start one with `hypergrad run table1`, or name "
                "runs of `hypergrad baselines`"
            )
        paths = [newest]
    print(render(read_cells(paths), form), end="")


def _newest(figure: str, files: str, outputs: Path) -> Path | None:
    """The newest run that is drawn as a figure and has the files for it."""
    from hypergrad.figures import figures_of

    runs = [run.path for run in find_runs(outputs) if run.status() != "damaged"]
    found = [
        path
        for path in runs
        if figure in figures_of(RunDirectory(path).read_summary()) and any(path.glob(files))
    ]
    return max(found, key=lambda path: path.name, default=None)
