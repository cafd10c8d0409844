"""What a finished search says on stdout: its best settings, and what the chosen ones came to."""

import csv
import math
import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hypergrad.core.outer_optimizer import selection_key
from hypergrad.runs.directory import RunDirectory

__all__ = ["print_search", "search_headline"]

SHOWN = 5  # settings
TITLES = {
    "grid": "hand-tuned (best)",
    "random": "random search",
    "hd": "hypergradient descent",
}


def print_search(path: Path) -> None:
    """Print the best settings by validation, the final trainings, and what the search spent.

    Args:
        path: The run directory.
    """
    summary = RunDirectory(path).read_summary()
    by_setting: dict[tuple[str, ...], list[dict[str, str]]] = {}
    with (path / "trials.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            by_setting.setdefault(_values(row), []).append(row)
    ranked = sorted(by_setting.items(), key=lambda item: _rank(item[1]), reverse=True)
    table = Table("setting", "validation", "test", "diverged", title=f"best {SHOWN} settings")
    for values, rows in ranked[:SHOWN]:
        lost = sum(int(row["diverged"]) for row in rows)
        table.add_row(
            " ".join(part for part in values if part),
            _spread(rows, "validation_accuracy"),
            _spread(rows, "test_accuracy"),
            f"{lost} of {len(rows)}" if lost else "-",
        )
    Console().print(table)
    total = sum(len(rows) for rows in by_setting.values())
    lost = sum(int(row["diverged"]) for rows in by_setting.values() for row in rows)
    seconds = sum(entry["seconds"] for entry in summary["spent"])
    print(f"{total} trials, {lost} diverged; {seconds:,.0f} s of computing")
    print(search_headline(path))


def search_headline(path: Path) -> str:
    """Return what the chosen settings came to on the test set, in one line.

    Args:
        path: The run directory.
    """
    summary = RunDirectory(path).read_summary()
    results = summary["results"]
    kind = summary["settings"]["search"]
    accuracies = [100 * result["test_accuracy"] for result in results]
    spread = f" ± {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    lost = sum(result["diverged"] for result in results)
    diverged = f", {lost} diverged" if lost else ""
    seeds = f"{len(results)} seed{'s' if len(results) > 1 else ''}"
    chosen = f" with {summary['best']['text']}" if kind == "grid" else ""
    return (
        f"{TITLES[kind]}{chosen}: {statistics.fmean(accuracies):.2f}{spread} % "
        f"(test accuracy, {seeds}{diverged})"
    )


def _values(row: dict[str, str]) -> tuple[str, ...]:
    """What tells one setting from another, in words for people."""
    if row["schedule"] == "hd":
        again = f"restart {row['restart']}," if int(row["restart"]) else ""
        return ("outer rate", row["outer_learning_rate"], again, f"seed {row['seed']}")
    names = (("α", "learning_rate"), ("η", "factor"), ("β", "momentum"), ("μ", "weight_decay"))

    def short(text: str) -> str:
        return " ".join(f"{float(value):.3g}" for value in text.split())

    return tuple(f"{name} {short(row[key])}" for name, key in names if row[key])


def _rank(rows: list[dict[str, str]]) -> tuple[float, float]:
    """What orders settings, as the search's own choice does."""
    return selection_key(_mean(rows, "validation_accuracy"), _mean(rows, "validation_loss"))


def _mean(rows: list[dict[str, str]], column: str) -> float:
    values = [float(row[column]) for row in rows if row[column]]
    return statistics.fmean(values) if values else math.nan


def _spread(rows: list[dict[str, str]], column: str) -> str:
    values = [100 * float(row[column]) for row in rows if row[column]]
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread} %"
