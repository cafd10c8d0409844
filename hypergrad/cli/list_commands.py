"""The commands that list: runs, data sets. None needs a GPU."""

from pathlib import Path

from rich.console import Console

from hypergrad.reporting.results import DIVERGED
from hypergrad.runs.directory import RunDirectory, find_runs
from hypergrad.runs.shown import printable
from hypergrad.runs.tables import Table

__all__ = ["list_data", "list_runs"]


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
        table.add_row(_name(run), *_state(run))
    Console().print(table)


def _name(run: RunDirectory) -> str:
    return printable(f"{run.path.parent.name}/{run.path.name}")


def _state(run: RunDirectory) -> tuple[str, str, str]:
    """Status, progress and result of a run, of a damaged one what is wrong with it."""
    try:
        status, summary = run.status(), run.read_summary()
    except (ValueError, OSError) as error:
        return "damaged", "-", str(error)
    if status == "finished" and summary.get("message") == DIVERGED:
        status = "finished, diverged"
    fraction = summary.get("progress", {}).get("fraction")
    done = "-" if fraction is None else f"{100 * fraction:.0f} %"
    return status, done, summary.get("headline") or summary.get("message") or "-"


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
