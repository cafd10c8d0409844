"""`python -m benchmarks`: time the inner step with tangents, print a table, write a CSV."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import SETTINGS, contenders
from benchmarks.timing import CLOCKS, alternate, summarise
from hypergrad.allocator import keep_freed_memory
from hypergrad.runs.csvlog import CsvLog
from hypergrad.runs.provenance import provenance

__all__ = ["main"]

COLUMNS = ("model", "batch_size", "columns", "threads", "clock", "contender", "round", "seconds")


def main(arguments: Sequence[str] | None = None) -> None:
    """Time what is asked for.

    Args:
        arguments: As of the command line; None takes those.
    """
    given = _parse(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    kept = given.keep_memory and keep_freed_memory()
    folder = given.output
    folder.mkdir(parents=True, exist_ok=True)
    log = CsvLog(folder / "seconds.csv", COLUMNS)
    about = provenance(given.device, [0], sys.argv)
    about |= {"threads": torch.get_num_threads(), "keeps_freed_memory": kept}
    (folder / "provenance.json").write_text(json.dumps(about, indent=2) + "\n")
    for name in given.models:
        for columns in given.columns:
            _measure(name, columns, given, log)
    log.close()
    print(f"written: {log.path}")


def _measure(name: str, columns: int, given: argparse.Namespace, log: CsvLog) -> None:
    setting = SETTINGS[name]
    seconds = alternate(contenders(setting, columns, given.device), given.rounds, given.clock)
    fixed = {
        "model": name,
        "batch_size": setting.batch_size,
        "columns": columns,
        "threads": torch.get_num_threads(),
        "clock": given.clock,
    }
    log.append(
        {**fixed, "contender": contender, "round": number, "seconds": took}
        for contender, times in seconds.items()
        for number, took in enumerate(times)
    )
    table = Table(
        "contender",
        "ms",
        "spread",
        "vs reference",
        "vs 2 gradients",
        title=f"{name}, N = {columns}",
    )
    # In matrix products, a Hessian product is two gradients' work; what remains can be shared.
    two_gradients = (1 + 2 * columns) * summarise(seconds["gradient"], seconds["reference"]).seconds
    for contender, times in seconds.items():
        timed = summarise(times, seconds["reference"])
        steps = contender not in ("gradient", "reverse")
        table.add_row(
            contender,
            f"{1e3 * timed.seconds:.1f}",
            f"{100 * timed.spread:.0f} %",
            f"{timed.gain:.2f}x",
            f"{timed.seconds / two_gradients:.2f}" if steps else "",
        )
    Console().print(table)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--models", nargs="+", default=["lenet", "wrn_16_1"], choices=list(SETTINGS))
    add("--columns", nargs="+", type=int, default=[3, 7, 16, 32], help="tangents, at least 3")
    add("--rounds", type=int, default=15, help="timed calls of each contender, at least 2")
    add("--threads", type=int, help="CPU threads; left to PyTorch if not given")
    add("--clock", default="wall", choices=list(CLOCKS))
    add("--device", default="cpu")
    add("--keep-memory", action=argparse.BooleanOptionalAction, default=True)
    add("--output", type=Path, default=Path("outputs/bench"), help="folder of the CSV")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
