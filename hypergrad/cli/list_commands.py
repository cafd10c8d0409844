"""The command that lists data sets."""

from pathlib import Path

from rich.console import Console

from hypergrad.runs.tables import Table

__all__ = ["list_data"]


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
