"""The commands that only read: list data sets, draw figures. None needs a GPU."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from hypergrad.runs.directory import RunDirectory, find_runs
from hypergrad.runs.errors import RunFailed, in_one_line
from hypergrad.runs.shown import short
from hypergrad.runs.tables import Table

__all__ = ["list_data", "plot", "table"]

# What comes of a file of a run that is well-formed, and holds what no run writes.
DAMAGE = (KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError)


def list_data(root: Path | None) -> None:
    """Print the named data sets, their sizes and places.

    Args:
        root: Data root, or None for the default.
    """
    from hypergrad.data import DataError, available

    if root is not None and not root.expanduser().is_dir():
        raise DataError(f"--root {root}: no such folder")
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


def plot(names: Sequence[str], run: Path | None, outputs: Path, folder: Path | None = None) -> None:
    """Draw figures and print their paths.

    Args:
        names: Figures; none for all that a run is drawn as.
        run: Run directory, or a folder of runs for a figure of many; None for the newest run of
            each figure, and for all runs.
        outputs: Folder of all runs.
        folder: Where the files go; None for `figures/` in the run.

    Raises:
        ValueError: For an unknown figure, or one without a run to draw it from.
        RunFailed: If there is a run and nothing can be drawn from it.
    """
    from hypergrad.figures import FIGURES, draw

    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        raise ValueError(f"unknown figure {', '.join(unknown)}: use one of {', '.join(FIGURES)}")
    sources = _sources(names, run, outputs)
    drawn, failures = 0, []
    for name, source in sources.items():
        try:
            print(f"{name}: {draw(name, source, folder)[0]}")
            drawn += 1
        except (ValueError, OSError) as error:
            failures.append(f"{name}: not drawn: {error}")
        except DAMAGE as error:
            failures.append(f"{name}: not drawn: {source} is damaged ({in_one_line(error)})")
    if failures and (names or not drawn):
        raise RunFailed("; ".join(failures))
    for failure in failures:
        print(short(failure), file=sys.stderr)


def _sources(names: Sequence[str], run: Path | None, outputs: Path) -> dict[str, Path]:
    """The run that each figure is to be drawn from."""
    from hypergrad.figures import FIGURES, figures_of

    if run is not None:
        if not run.is_dir():
            raise ValueError(
                f"no run directory at {run}: `hypergrad runs` lists the runs there are"
            )
        if names and all(FIGURES[name].many for name in names):
            return dict.fromkeys(names, run)
        own = figures_of(RunDirectory(run).read_summary())
        if not names and "table1" in own:
            raise RunFailed(f"nothing drawn: `hypergrad table {run}` prints the table of this run")
        if not names and not own:
            raise RunFailed(f"nothing drawn: {run} is drawn as none of {', '.join(FIGURES)}")
        return dict.fromkeys(names or own, run)
    newest = {name: outputs for name in names if name in FIGURES and FIGURES[name].many}
    runs = _whole_runs(outputs)
    for path, summary in runs.items():
        for name in set(figures_of(summary)) & FIGURES.keys():
            if any(path.glob(FIGURES[name].files)):
                newest[name] = path
    for name in names:
        if name not in newest:
            raise ValueError(
                f"no run under {outputs} to draw {name} from: start one, as `hypergrad run` lists "
                "them, or give --run"
            )
    if runs and not newest:
        raise RunFailed(f"nothing drawn: no run under {outputs} has the data of a figure yet")
    if not runs:
        raise ValueError(f"no runs under {outputs}: start one with `hypergrad run quickstart`")
    return {name: newest[name] for name in names or FIGURES if name in newest}


def table(runs: Sequence[Path], outputs: Path, form: str) -> None:
    """Print Table 1.

    Args:
        runs: Directories of tables or of their cells; none for the newest table.
        outputs: Folder of all runs.
        form: `terminal`, `markdown`, `csv` or `latex`.

    Raises:
        ValueError: If there is no run, or none of such a kind.
    """
    from hypergrad.figures import figures_of
    from hypergrad.figures.table1 import render
    from hypergrad.figures.table1_data import read_cells

    paths = list(runs)
    if not paths:
        whole = _whole_runs(outputs)
        tables = [path for path in whole if "table1" in figures_of(whole[path])]
        if not tables:
            raise ValueError(
                f"no run of table1 under {outputs}: start one with `hypergrad run table1`, or name "
                "runs of `hypergrad baselines`"
            )
        paths = tables[-1:]
    try:
        text = render(read_cells(paths), form)
    except DAMAGE as error:
        raise RunFailed(f"{', '.join(map(str, paths))}: damaged ({in_one_line(error)})") from error
    print(text, end="")


def _whole_runs(outputs: Path) -> dict[Path, dict]:
    """The summaries of the runs that have one, by path, oldest first."""
    runs = (run for run in find_runs(outputs) if run.status() != "damaged")
    return {run.path: run.read_summary() for run in runs}
