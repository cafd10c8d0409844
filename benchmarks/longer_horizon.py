"""Do the schedules of the record of improve hold over five times the horizon?

    python -m benchmarks.longer_horizon improve_digits RECORD.csv longer.csv

Each is stretched and trained with anew on the whole training set, with seeds that nothing has seen,
the same for all methods. The record has moves to a hundredth of their logarithm: so have these.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from benchmarks.improvement import RETRAININGS
from benchmarks.paired import paired
from hypergrad.config.composition import compose
from hypergrad.core.dead_network import is_dead
from hypergrad.core.move_space import Candidate
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.drivers.context import prepare
from hypergrad.drivers.improve.space import move_space
from hypergrad.drivers.improve.subjects import subject_of
from hypergrad.training.improvement.trainer import outcome_of
from hypergrad.training.improvement.trainings import Key, Training

__all__ = ["summarised"]

TIMES = 5
FIRST = 2000  # number of the first key: the record's judgement used those from 1000
COLUMNS = "experiment seed method accuracies dead".split()
METHODS = ("base", "ladder", "improved")


def candidate(origin: Candidate, note: str) -> Candidate:
    """Return the candidate that a note of the record describes; the base without one."""
    if not note or note.startswith("base"):
        return origin
    factor, *moves = note.split()[1:]
    own = tuple(map(float, moves)) or origin.moves
    return Candidate(own, float(factor.removeprefix("x")))


def study(experiment: str, record: Path, path: Path, overrides: Sequence[str]) -> None:
    """Add the rows that are missing."""
    short, _ = compose(experiment, overrides)
    context = prepare(compose(experiment, [*overrides, f"epochs={TIMES * short.epochs}"])[0])
    if not path.exists():
        path.write_text(",".join(COLUMNS) + "\n")
    done = {(row["seed"], row["method"]) for row in _rows(path)}
    space = move_space(context.config)
    for row in _rows(record):
        if row["method"] not in METHODS or (row["seed"], row["method"]) in done:
            continue
        found, dead = [], 0
        for number in range(RETRAININGS):
            key, seed = Key("judge", FIRST + number), int(row["seed"])
            subject = subject_of(key, seed, context.config, context.data, space)
            own = candidate(space.origin, row["note"])
            outcome = outcome_of(Training(key, own), subject, space, ReverseOptions())
            found.append(outcome.accuracy)
            test = context.data.test
            dead += outcome.diverged or is_dead(outcome.accuracy, test.chance, len(test))
        scores = " ".join(f"{each:.6f}" for each in found)
        with path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(
                [experiment, row["seed"], row["method"], scores, dead]
            )


def summarised(path: Path) -> list[str]:
    """Lines of a Markdown table: mean, worst, collapses, and what improved is above each."""
    own: dict[str, dict[str, list[float]]] = {}
    dead: dict[str, int] = {}
    for row in _rows(path):
        scores = [100 * float(each) for each in row["accuracies"].split()]
        own.setdefault(row["method"], {})[row["seed"]] = scores
        dead[row["method"]] = dead.get(row["method"], 0) + int(row["dead"])
    lines = []
    for name, by_seed in own.items():
        every = [score for scores in by_seed.values() for score in scores]
        against = ""
        if name != "improved":
            ours = [mean(own["improved"][seed]) for seed in by_seed]
            against = str(paired(ours, [mean(scores) for scores in by_seed.values()]))
        lines.append(
            f"| {name} | {len(by_seed)} | {mean(every):.2f} | {min(every):.2f} | "
            f"{dead[name]} of {len(every)} | {against} |"
        )
    return lines


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print("\n".join(summarised(Path(sys.argv[1]))))
    else:
        study(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
