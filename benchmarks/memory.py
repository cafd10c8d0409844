"""`memory`: peak memory of a whole outer step against the number of inner steps."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CASES
from benchmarks.memory_figure import draw_memory
from benchmarks.outer_contenders import OURS, OUTER
from benchmarks.peers import absence
from benchmarks.record import at_least, open_record

__all__ = ["add_arguments", "measure", "peak_of"]

COLUMNS = ("model", "columns", "mode", "horizon", "round", "peak", "before", "state")
ROOT = Path(__file__).resolve().parents[1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes."""
    add = parser.add_argument
    add("--models", nargs="+", default=["mlp_8x8"], choices=list(CASES))
    add("--modes", nargs="+", default=list(OURS), choices=OUTER)
    add("--horizons", nargs="+", type=at_least(1), default=[100, 1000, 10000], help="inner steps T")
    add("--columns", type=at_least(1), default=7, help="learned values N")
    add("--rounds", type=at_least(1), default=3, help="processes for each measurement")


def measure(given: argparse.Namespace, folder: Path) -> None:
    """Measure what is asked for, each in a process of its own; print, write CSV and figure.

    Args:
        given: As `add_arguments` reads it.
        folder: Where to write.
    """
    log = open_record(folder, COLUMNS, given)
    for name in given.models:
        table = Table("mode", "T", "peak MiB", "beyond the start", "vs first T", title=name)
        for mode in given.modes:
            if reason := absence(mode):
                print(f"{mode} left out: {reason}")
                continue
            first = None
            for horizon in given.horizons:
                found = [peak_of(mode, name, horizon, given) for _ in range(given.rounds)]
                about = {"model": name, "columns": given.columns, "mode": mode, "horizon": horizon}
                log.append({**about, "round": n, **sizes} for n, sizes in enumerate(found))
                peak = median(sizes["peak"] for sizes in found)
                extra = median(sizes["peak"] - sizes["before"] for sizes in found)
                first = first or peak
                row = f"{peak / 2**20:.1f}", f"{extra / 2**20:.1f}", f"{peak / first:.3f}"
                table.add_row(mode, f"{horizon:,}", *row)
        Console().print(table)
    log.close()
    draw_memory(log.path, folder / "memory.png")


def peak_of(mode: str, model: str, horizon: int, given: argparse.Namespace) -> dict[str, int]:
    """Take one outer step in a process of its own.

    Args:
        mode: One of `OUTER`.
        model: One of `CASES`.
        horizon: `T`, inner steps.
        given: `columns`, `device`, `threads` and `keep_memory`.

    Returns:
        Bytes: `peak`, `before` it began, and `state` of one step.

    Raises:
        RuntimeError: If that process fails.
    """
    command = [sys.executable, "-m", "benchmarks.peak", mode, model, str(horizon)]
    command += ["--columns", str(given.columns), "--device", given.device]
    command += [] if given.threads is None else ["--threads", str(given.threads)]
    command += ["--keep-memory" if given.keep_memory else "--no-keep-memory"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])}: {done.stderr.strip() or done.returncode}")
    return json.loads(done.stdout)
