"""Claims 3, 4 and 5: the table of experiments/claims, from its record.

python -m benchmarks.claims experiments/claims/record/results.csv
"""

import csv
import sys
from pathlib import Path
from statistics import mean, stdev

from benchmarks.paired import Paired, holm, paired

__all__ = ["table", "verdicts"]

MARGIN = 0.5  # points, as registered
CHANCE = 10.0
BASE = "base"
COMPARED = {  # what was registered of each setting
    "double": "equivalent",
    "half": "equivalent",
    "validation_20": "not better",
    "truncation_0": "equivalent",
    "truncation_50": "worse",
}


def read(path: Path) -> dict[str, list[float]]:
    """Return test accuracies in % by setting, in the order of the seeds."""
    found: dict[str, list[float]] = {}
    with path.open(newline="") as file:
        for row in sorted(csv.DictReader(file), key=lambda row: int(row["seed"])):
            score = CHANCE if row["diverged"] == "True" else 100 * float(row["test_accuracy"])
            found.setdefault(row["setting"], []).append(score)
    return found


def verdicts(scores: dict[str, list[float]]) -> dict[str, tuple[Paired, float, float]]:
    """Return of each setting its difference to the base, p, and p after Holm's correction."""
    differences = {name: paired(scores[name], scores[BASE]) for name in COMPARED}
    tests = {
        "equivalent": lambda own: own.equivalent(MARGIN),
        "not better": lambda own: own.below(MARGIN),
        "worse": lambda own: own.below(),
    }
    p = [tests[COMPARED[name]](own) for name, own in differences.items()]
    corrected = holm(p)
    return {
        name: (own, p[index], corrected[index])
        for index, (name, own) in enumerate(differences.items())
    }


def table(path: Path) -> list[str]:
    """Return the lines of a Markdown table."""
    scores, lines = read(path), []
    found = verdicts(scores)
    for name, own in scores.items():
        line = f"| {name} | {mean(own):.2f} ± {stdev(own):.2f} % | {min(own):.2f} % |"
        if name in found:
            difference, p, corrected = found[name]
            line += f" {difference} | {COMPARED[name]}: p {p:.2g}, corrected {corrected:.2g} |"
        lines.append(line if name in found else line + " | |")
    return lines


if __name__ == "__main__":
    print("\n".join(table(Path(sys.argv[1]))))
