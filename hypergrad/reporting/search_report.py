"""What a finished search says on stdout: its best settings, and what the chosen ones came to."""

import statistics
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from hypergrad.core.outer_optimizer import selection_key
from hypergrad.runs.directory import RunDirectory

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["print_search", "search_headline"]

SHOWN = 5  # settings
NUMBERS = ["validation_accuracy", "test_accuracy", "validation_loss", "diverged"]
TITLES = {
    "grid": "hand-tuned (best)",
    "random": "random search",
    "hd": "hypergradient descent",
}


def print_search(path: Path) -> None:
    """Print the best settings by validation, the final trainings, and what the search spent."""
    import pandas as pd

    trials = pd.read_csv(path / "trials.csv", dtype=str, keep_default_na=False)
    words = pd.Series([_words(row) for row in trials.to_dict("records")], trials.index)
    trials["validation_loss"] = trials["validation_loss"].replace(
        "nan", "inf"
    )  # as bad, not absent
    trials[NUMBERS] = trials[NUMBERS].replace("", "nan").astype(float)
    means = trials.groupby(words, sort=False)[NUMBERS].agg(["mean", "std", "sum", "count"])
    order = [
        selection_key(row["validation_accuracy", "mean"], row["validation_loss", "mean"])
        for _, row in means.iterrows()
    ]
    table = Table("setting", "validation", "test", "diverged", title=f"best {SHOWN} settings")
    for place in sorted(range(len(means)), key=lambda i: order[i], reverse=True)[:SHOWN]:
        row = means.iloc[place]
        lost, count = (int(row["diverged", name]) for name in ("sum", "count"))
        accuracies = [_spread(row[name]) for name in NUMBERS[:2]]
        table.add_row(str(row.name), *accuracies, f"{lost} of {count}" if lost else "-")
    Console().print(table)
    seconds = sum(entry["seconds"] for entry in RunDirectory(path).read_summary()["spent"])
    print(
        f"{len(trials)} trials, {trials['diverged'].sum():.0f} diverged; {seconds:,.0f} s of computing"
    )
    print(search_headline(path))


def search_headline(path: Path) -> str:
    """Return what the chosen settings came to on the test set, in one line."""
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


def _words(row: dict[Hashable, str]) -> str:
    """What tells one setting from another, for people."""
    if row["schedule"] == "hd":
        again = f"restart {row['restart']}, " if int(row.get("restart") or 0) else ""
        return f"outer rate {row['outer_learning_rate']} {again}seed {row['seed']}"
    names = (("α", "learning_rate"), ("η", "factor"), ("β", "momentum"), ("μ", "weight_decay"))
    values = [(name, [f"{float(value):.3g}" for value in row[key].split()]) for name, key in names]
    return " ".join(f"{name} {' '.join(own)}" for name, own in values if own)


def _spread(row: "pd.Series") -> str:
    """Mean and standard deviation of accuracies in percent; a dash for none."""
    if not row["count"]:
        return "-"
    spread = f" ± {100 * row['std']:.2f}" if row["count"] > 1 else ""
    return f"{100 * row['mean']:.2f}{spread} %"
