"""What a finished improvement says on stdout: what is gained, what it cost, what was chosen."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.tables import Table
from hypergrad.training.improvement.interval import interval

__all__ = ["improve_headline", "print_improvement"]


def print_improvement(path: Path) -> None:
    """Print what is gained over the base, seed by seed, and what that cost."""
    seeds = _seeds(path)
    table = Table("seed", "gain", "base", "chosen", "is", "trainings")
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[1:4]:
        column.justify = "right"
    for each in seeds:
        spent, judged = each["spent"], each["judged"]
        base, chosen = ("-", "-") if judged is None else map(_percent, judged)
        table.add_row(
            str(each["seed"]),
            _points(each["accuracy_difference"]),
            base,
            chosen,
            each["chosen"],
            str(spent["trials"]),
        )
    Console().print(table)
    print(
        "gain: points of test accuracy with its 95 % t-interval, of trainings on the whole\n"
        "training set whose seeds chose nothing"
    )
    seconds = sum(each["spent"]["seconds"] for each in seeds)
    products = sum(each["spent"]["products"] for each in seeds)
    gradients = sum(each["spent"]["gradients"] for each in seeds) + 2 * products
    trainings = sum(each["spent"]["trials"] for each in seeds)
    print(improve_headline(path))
    print(
        f"cost: {trainings} trainings, {gradients:,} gradients (a Hessian product counts as two), "
        f"{seconds:,.0f} s of computing"
    )


def improve_headline(path: Path) -> str:
    """Return in one line what is gained over the base."""
    seeds = _seeds(path)
    if len(seeds) == 1:
        (only,) = seeds
        if only["accuracy_difference"] is None:
            return str(only["gain"])
        return f"{_points(only['accuracy_difference'])} points of test accuracy over the base"
    gains = [
        0.0 if each["judged"] is None else _mean(each["judged"][1]) - _mean(each["judged"][0])
        for each in seeds
    ]
    text = _points(interval(gains)._asdict())
    return f"{text} points of test accuracy over the base, mean of {len(seeds)} seeds"


def _seeds(path: Path) -> list[dict]:
    return RunDirectory(path).read_json("improve.json")["seeds"]


def _mean(values: Sequence[float]) -> float:
    return statistics.mean(values)


def _percent(values: Sequence[float]) -> str:
    return f"{100 * _mean(values):.2f} %"


def _points(difference: dict | None) -> str:
    if difference is None:
        return "the base stays"
    half = f" ± {100 * difference['half']:.2f}" if math.isfinite(difference["half"]) else ""
    return f"{100 * difference['mean']:+.2f}{half}"
