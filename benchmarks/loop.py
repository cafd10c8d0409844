"""`loop`: the library's ways that only train, beside a training loop written by hand."""

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.record import at_least, open_record
from benchmarks.timing import CLOCKS, alternate, summarise
from benchmarks.trainings import MEMBERS, TRAININGS, trainings

__all__ = ["add_arguments", "measure"]

COLUMNS = ("model", "batch_size", "steps", "threads", "clock", "way", "members", "round", "seconds")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes."""
    add = parser.add_argument
    add("--models", nargs="+", default=list(TRAININGS), choices=list(TRAININGS))
    add("--rounds", type=at_least(2), default=11, help="trainings in each way, at least 2")
    add("--limit", type=float, default=150.0, help="seconds of a network, once it has 2 rounds")
    add("--clock", default="wall", choices=list(CLOCKS))


def measure(given: argparse.Namespace, folder: Path) -> None:
    """Time trainings; print tables and write the CSV.

    Args:
        given: As `add_arguments` reads it.
        folder: Where to write.
    """
    log = open_record(folder, COLUMNS, given)
    for name in given.models:
        training = TRAININGS[name]
        seconds = alternate(
            trainings(training, given.device), given.rounds, given.clock, given.limit
        )
        # Members are trained together: what counts is the time of one.
        members = {way: MEMBERS if way == "ensemble" else 1 for way in seconds}
        fixed = {
            "model": name,
            "batch_size": training.batch_size,
            "steps": training.batches,
            "threads": torch.get_num_threads(),
            "clock": given.clock,
        }
        log.append(
            {**fixed, "way": way, "members": members[way], "round": number, "seconds": took}
            for way, times in seconds.items()
            for number, took in enumerate(times)
        )
        table = Table("way", "ms a step", "spread", "of the plain loop", title=name)
        for way, times in seconds.items():
            timed = summarise([took / members[way] for took in times], seconds["plain"])
            table.add_row(
                f"{way} of {members[way]}" if members[way] > 1 else way,
                f"{1e3 * timed.seconds / training.batches:.2f}",
                f"{100 * timed.spread:.0f} %",
                f"{1 / timed.gain:.3f}",
            )
        Console().print(table)
    log.close()
