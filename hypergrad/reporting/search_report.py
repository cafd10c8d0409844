"""What a finished search says on stdout: its best settings, and what the chosen ones came to."""

import io
import math
import statistics
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from hypergrad.core.outer_optimizer import selection_key
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.plain_files import read_csv_bytes
from hypergrad.runs.tables import Table

if TYPE_CHECKING:
    import numpy as np

__all__ = ["print_search", "search_headline"]

SHOWN = 5  # settings
SYMBOLS = {"learning_rate": "α", "factor": "η", "momentum": "β", "weight_decay": "μ"}
TEXTS = ["schedule", *SYMBOLS, "outer_learning_rate", "restart", "epochs"]
TITLES = {
    "grid": "hand-tuned (best)",
    "random": "random search",
    "hd": "hypergradient descent",
    "tpe": "tree-structured Parzen estimators",
    "hyperband": "Hyperband",
    "random_space": "random search on search.space",
}


def print_search(path: Path) -> None:
    """Print the best settings by validation, the final trainings, and what the search spent."""
    import pandas as pd

    from hypergrad.figures.run_data import floats, integers

    content = io.BytesIO(read_csv_bytes(path / "trials.csv"))
    trials = pd.read_csv(content, dtype=dict.fromkeys(TEXTS, str))
    if "epochs" not in trials.columns:  # a record of an earlier version
        trials = trials.assign(epochs="")
    trials = trials.fillna(dict.fromkeys(TEXTS, ""))
    words = pd.Series([_words(row) for row in trials.to_dict("records")], trials.index)
    ranked = []
    for setting, own in trials.groupby(words, sort=False):
        accuracy, loss = floats(own, "validation_accuracy"), floats(own, "validation_loss")
        tested = floats(own.dropna(subset="test_accuracy"), "test_accuracy")
        lost = integers(own, "diverged").sum()
        diverged = f"{lost} of {len(own)}" if lost else "-"
        texts = (str(setting), _spread(accuracy), _spread(tested), diverged)
        # A whole training stands before a shorter one, as in the choice.
        length = float(own["epochs"].iloc[0] or math.inf)
        ranked.append(((length, selection_key(accuracy.mean(), loss.mean())), texts))
    table = Table("setting", "validation", "test", "diverged", title=f"best {SHOWN} settings")
    for _, texts in sorted(ranked, key=lambda entry: entry[0], reverse=True)[:SHOWN]:
        table.add_row(*texts)
    Console().print(table)
    seconds = sum(entry["seconds"] for entry in RunDirectory(path).read_summary()["spent"])
    lost = integers(trials, "diverged").sum()
    print(f"{len(trials)} trials, {lost} diverged; {seconds:,.0f} s of computing")
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
    values = {s: [f"{float(v):.3g}" for v in row[name].split()] for name, s in SYMBOLS.items()}
    if row.get("epochs"):
        values["epochs"] = [row["epochs"]]
    return " ".join(f"{symbol} {' '.join(own)}" for symbol, own in values.items() if own)


def _spread(accuracies: "np.ndarray") -> str:
    """Mean and standard deviation of accuracies in percent; a dash for none."""
    if not accuracies.size:
        return "-"
    spread = f" ± {100 * accuracies.std(ddof=1):.2f}" if accuracies.size > 1 else ""
    return f"{100 * accuracies.mean():.2f}{spread} %"
