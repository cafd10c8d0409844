"""Whether a file can be written where a user wants it, before any work is done for it."""

from pathlib import Path

__all__ = ["check_output"]


def check_output(path: Path | None) -> None:
    """Refuse a file whose folder is not there, and a folder in a file's place.

    Raises:
        ValueError: One line that names it.
    """
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"--output {path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise ValueError(f"--output {path}: no folder {path.parent}: make it first")
