"""`outer`: a whole outer step by every mode, TorchOpt, higher and finite differences."""

import argparse
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CASES
from benchmarks.outer_contenders import OUTER, contender, gradients_about, outer_problem
from benchmarks.outer_figure import draw_outer
from benchmarks.peers import absence
from benchmarks.record import at_least, open_record
from benchmarks.timing import CLOCKS, alternate, summarise
from hypergrad.runs.run_log import CsvLog

__all__ = ["add_arguments", "measure"]

COLUMNS = (
    *("model", "batch_size", "horizon", "columns", "threads", "clock"),
    *("contender", "round", "seconds", "gradients"),
)


class Setting(NamedTuple):
    """One table: a network, `T` and `N`, and who takes part.

    The peers keep the graphs of all steps: for a WRN those of twenty need tens of gigabytes.
    """

    model: str
    horizon: int
    columns: int
    contenders: tuple[str, ...] = OUTER


# What a CPU does in about half an hour. The WRNs' T is short: what an outer step does once (the
# validation gradient, the last step again) weighs the more.
REVERSE = ("plain", "reverse", "checkpointed")
PLAN = (
    *(Setting("mlp", 400, columns) for columns in (1, 7, 64)),
    *(Setting("lenet", 64, columns) for columns in (1, 7, 64)),
    Setting("lenet", 400, 10),
    Setting("wrn_16_1", 20, 7, REVERSE),
    Setting("wrn_16_4", 4, 4, REVERSE),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes."""
    add = parser.add_argument
    add("--models", nargs="+", choices=list(CASES), help="default: the tables of PLAN")
    add(
        "--horizons", nargs="+", type=at_least(1), default=[50], help="inner steps T, with --models"
    )
    add("--columns", nargs="+", type=at_least(1), default=[7], help="values N, with --models")
    add("--contenders", nargs="+", choices=OUTER, help="with --models; default: all")
    add("--rounds", type=at_least(2), default=5, help="timed calls of each contender, at least 2")
    add("--limit", type=float, default=300.0, help="seconds of a table, once it has 2 rounds")
    add("--most", type=float, default=5000, help="leave out who needs more gradients in a call")
    add("--clock", default="cpu", choices=list(CLOCKS))
    add("--draw", nargs="+", type=Path, metavar="CSV", help="only draw what was measured before")
    add("--memory", type=Path, metavar="CSV", help="draw peaks of `memory` beside the times")


def measure(given: argparse.Namespace, folder: Path) -> None:
    """Time what is asked for; print tables, write the CSV and the figure.

    Args:
        given: As `add_arguments` reads it.
        folder: Where to write.
    """
    if given.draw:
        folder.mkdir(parents=True, exist_ok=True)
        draw_outer(given.draw, given.memory, folder / "outer.png")
        return
    log = open_record(folder, COLUMNS, given)
    asked = product(given.models or (), given.horizons, given.columns)
    contenders = tuple(given.contenders or OUTER)
    for setting in [Setting(m, t, n, contenders) for m, t, n in asked] or PLAN:
        _measure(setting, given, log)
    log.close()
    draw_outer([log.path], given.memory, folder / "outer.png")


def _measure(setting: Setting, given: argparse.Namespace, log: CsvLog) -> None:
    name, horizon, columns, contenders = setting
    problem = outer_problem(CASES[name], columns, horizon, given.device)
    ways = {}
    for way in dict.fromkeys(["plain", *contenders]):  # the unit is always there
        reason = absence(way)
        if (about := gradients_about(way, columns, horizon)) > given.most and way != "plain":
            reason = f"it needs about {about:,} gradients, --most is {given.most:,g}"
        if reason:
            print(f"{way} left out of {name}, T = {horizon:,}, N = {columns}: {reason}")
        else:
            ways[way] = contender(way, problem)
    seconds = alternate(ways, given.rounds, given.clock, given.limit)
    fixed = {
        "model": name,
        "batch_size": problem.case.batch_size,
        "horizon": horizon,
        "columns": columns,
        "threads": torch.get_num_threads(),
        "clock": given.clock,
    }
    log.append(
        {**fixed, "contender": way, "round": number, "seconds": took, "gradients": took / unit}
        for way, times in seconds.items()
        for number, (took, unit) in enumerate(zip(times, seconds["plain"], strict=True))
    )
    table = Table("contender", "ms a step", "spread", "G a step", title=_title(setting))
    for way, times in seconds.items():
        timed = summarise(times, seconds["plain"])
        milliseconds = f"{1e3 * timed.seconds / horizon:.2f}"
        table.add_row(way, milliseconds, f"{100 * timed.spread:.0f} %", f"{1 / timed.gain:.2f}")
    Console().print(table)


def _title(setting: Setting) -> str:
    return f"{setting.model}, T = {setting.horizon:,}, N = {setting.columns}"
