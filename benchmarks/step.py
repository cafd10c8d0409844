"""`step`: one inner step with all tangents, in every way, beside the plain loop."""

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CASES, contenders
from benchmarks.record import at_least, open_record
from benchmarks.step_figure import draw_steps, two_gradients
from benchmarks.timing import CLOCKS, alternate, summarise
from hypergrad.runs.run_log import CsvLog

__all__ = ["add_arguments", "measure"]

COLUMNS = ("model", "batch_size", "columns", "threads", "clock", "contender", "round", "seconds")
WITHOUT_TANGENTS = ("gradient", "reverse")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes."""
    add = parser.add_argument
    shipped = [name for name in CASES if not name.startswith("mlp")]
    add("--models", nargs="+", default=shipped, choices=list(CASES))
    add(
        "--columns",
        nargs="+",
        type=at_least(1),
        help="tangents N; default: what a CPU can do in minutes",
    )
    add("--rounds", type=at_least(2), default=15, help="timed calls of each contender, at least 2")
    add("--limit", type=float, default=150.0, help="seconds of a table, once it has 2 rounds")
    add("--replay", action="store_true", help="also replay each strategy: meant for CUDA")
    add("--clock", default="wall", choices=list(CLOCKS))
    add("--precision", default="float32", choices=["float32", "float64"])
    add("--draw", nargs="+", type=Path, metavar="CSV", help="only draw what was measured before")


def measure(given: argparse.Namespace, folder: Path) -> None:
    """Time what is asked for; print tables, write the CSV and the figure.

    Args:
        given: As `add_arguments` reads it.
        folder: Where to write.
    """
    if given.draw:
        folder.mkdir(parents=True, exist_ok=True)
        draw_steps(given.draw, folder / "step.png")
        return
    log = open_record(folder, COLUMNS, given)
    for name in given.models:
        for columns in given.columns or CASES[name].columns:
            _measure(name, columns, given, log)
    log.close()
    draw_steps([log.path], folder / "step.png")


def _measure(name: str, columns: int, given: argparse.Namespace, log: CsvLog) -> None:
    case = CASES[name]
    dtype = getattr(torch, given.precision)
    ways = contenders(case, columns, given.device, dtype, given.replay)
    seconds = alternate(ways, given.rounds, given.clock, given.limit)
    fixed = {
        "model": name,
        "batch_size": case.batch_size,
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
    bound = two_gradients(columns, summarise(seconds["gradient"], seconds["reference"]).seconds)
    for contender, times in seconds.items():
        timed = summarise(times, seconds["reference"])
        table.add_row(
            contender,
            f"{1e3 * timed.seconds:.1f}",
            f"{100 * timed.spread:.0f} %",
            f"{timed.gain:.2f}x",
            "" if contender in WITHOUT_TANGENTS else f"{timed.seconds / bound:.2f}",
        )
    Console().print(table)
