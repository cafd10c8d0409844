"""Where the checkout is, for tests that start processes of their own."""

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
RUNS = ROOT / "outputs"  # the user's own

_TOUCHING = {"open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename"}


def refuse_real_runs(event: str, arguments: tuple) -> None:
    """An audit hook: the user's own runs are no business of a test."""
    if event not in _TOUCHING or not isinstance(arguments[0], str | bytes | os.PathLike):
        return
    path = os.path.abspath(os.fsdecode(arguments[0]))
    inside = path == str(RUNS) or path.startswith(f"{RUNS}{os.sep}")
    if inside and path != str(RUNS / "README.md"):
        raise AssertionError(f"a test touches {path}: the outcome would depend on what ran there")
