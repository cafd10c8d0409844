"""The commands that list: runs, data sets. None needs a GPU."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from hypergrad.runs.directory import RunDirectory, find_runs

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
