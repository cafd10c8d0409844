"""`trainings.csv`: one row a training, from which an interrupted improvement goes on."""

import csv
from pathlib import Path

from hypergrad.core.budget import Spent
from hypergrad.core.move_space import Candidate
from hypergrad.runs.run_log import CsvLog
from hypergrad.training.improvement.follow import Done
from hypergrad.training.improvement.trainings import Key, Outcome, Training

__all__ = ["Records"]

COLUMNS = (
    "seed stage iteration candidate key margin factor loss accuracy diverged gradients products "
    "seconds differentiated moves hypergradients"
).split()


class Records:
    """The trainings of a run; a row that a killed process left unfinished is cut off.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            whole = path.read_bytes()
            _cut(path, whole.rfind(b"\n") + 1, len(whole))
        self._path = path
        self._log = CsvLog(path, COLUMNS)

    def of(self, seed: int) -> list[Done]:
        """Return what has been recorded of a seed.

        Raises:
            ValueError: If the file is damaged.
        """
        if not self._path.exists():
            return []
        with self._path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["seed"] == str(seed)]
        try:
            return [_done(row) for row in rows]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{self._path} is damaged ({error}): delete the broken line, or start a new run"
            ) from None

    def append(self, seed: int, training: Training, outcome: Outcome) -> None:
        """Add a training, so that it outlives a kill of this process."""
        found = outcome.hypergradients
        row = {
            "seed": seed,
            "stage": training.key.stage,
            "iteration": training.iteration,
            "candidate": training.name,
            "key": training.key.number,
            "margin": training.margin,
            "factor": training.candidate.factor,
            "loss": outcome.loss,
            "accuracy": outcome.accuracy,
            "diverged": int(outcome.diverged),
            "gradients": outcome.spent.gradients,
            "products": outcome.spent.products,
            "seconds": outcome.spent.seconds,
            "differentiated": int(training.differentiate),
            "moves": _text(training.candidate.moves),
            "hypergradients": None if found is None else _text(found),
        }
        self._log.append([row])

    def close(self) -> None:
        """Bring every row to the disk, and close the file."""
        self._log.sync()
        self._log.close()


def _cut(path: Path, end: int, size: int) -> None:
    if end < size:
        with path.open("r+b") as file:
            file.truncate(end)


def _text(numbers: tuple[float, ...]) -> str:
    return " ".join(map(repr, numbers))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split()))


def _done(row: dict[str, str]) -> Done:
    training = Training(
        Key(row["stage"], int(row["key"])),
        Candidate(_numbers(row["moves"]), float(row["factor"])),
        float(row["margin"]),
        row["differentiated"] == "1",
        int(row["iteration"]),
        row["candidate"],
    )
    spent = Spent(float(row["seconds"]), int(row["gradients"]), int(row["products"]), 1)
    found = _numbers(row["hypergradients"]) if row["hypergradients"] else None
    outcome = Outcome(
        float(row["loss"]), float(row["accuracy"]), row["diverged"] == "1", spent, found
    )
    return training, outcome
