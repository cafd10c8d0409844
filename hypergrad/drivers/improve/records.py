"""`trainings.csv`: one row a training, from which an interrupted improvement goes on.

Each row carries a checksum of itself and of all rows before it, so that none can be changed, moved
or taken out.
"""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from hypergrad.core.budget import Spent
from hypergrad.core.move_space import Candidate
from hypergrad.runs.records import checksum
from hypergrad.runs.run_log import CsvLog
from hypergrad.training.improvement.follow import Done
from hypergrad.training.improvement.trainings import Key, Outcome, Training

__all__ = ["Records", "read_rows"]

COLUMNS = (
    "seed stage iteration candidate key margin factor loss accuracy diverged gradients products "
    "seconds differentiated moves hypergradients checksum"
).split()


class Records:
    """The trainings of a run; a row that a killed process left unfinished is cut off.

    Args:
        path: The file.
        ground: Stands for all that its results depend on; rows of another are refused.

    Raises:
        ValueError: If the file is damaged.
    """

    def __init__(self, path: Path, ground: str | None = None) -> None:
        if path.exists():
            whole = path.read_bytes()
            _cut(path, whole.rfind(b"\n") + 1, len(whole))
        self._path = path
        self._log = CsvLog(path, COLUMNS)
        self._rows, self._chain = read_rows(path, ground)

    def of(self, seed: int) -> list[Done]:
        """Return what has been recorded of a seed."""
        return [done for own, done in self._rows if own == seed]

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
        chain = _linked(self._chain, {name: _cell(value) for name, value in row.items()})
        self._log.append([{**row, "checksum": chain}])
        self._chain = chain
        self._rows.append((seed, (training, outcome)))

    def close(self) -> None:
        """Bring every row to the disk, and close the file."""
        try:
            self._log.sync()
        finally:
            self._log.close()


def read_rows(path: Path, ground: str | None = None) -> tuple[list[tuple[int, Done]], str]:
    """Return the trainings in a file, each with its seed, and the last one's checksum.

    Args:
        path: The file; may be missing. A row at its end that is not finished is passed over.
        ground: As for `Records`.

    Raises:
        ValueError: If the file is damaged.
    """
    rows, chain = [], checksum(ground)
    whole = path.read_bytes() if path.exists() else b""
    try:
        lines = whole[: whole.rfind(b"\n") + 1].decode("utf-8").splitlines()
        for number, row in enumerate(csv.DictReader(lines), start=2):
            chain = _linked(chain, row)
            if row["checksum"] != chain:
                raise ValueError(f"line {number} is not what was written there")
            rows.append((int(row["seed"]), _done(row)))
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete that line and all after it, which are trained "
            "again, or start a new run"
        ) from None
    return rows, chain


def _cut(path: Path, end: int, size: int) -> None:
    if end < size:
        with path.open("r+b") as file:
            file.truncate(end)


def _linked(before: str, row: Mapping[str, str]) -> str:
    """The checksum of a row and of all before it."""
    own = [row[name] or "" for name in COLUMNS if name != "checksum"]
    return checksum([before, own])[:16]


def _cell(value: object) -> str:
    """A value as the file has it."""
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


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
    if not math.isnan(outcome.accuracy) and not 0 <= outcome.accuracy <= 1:
        raise ValueError(f"accuracy={outcome.accuracy} is no share")
    return training, outcome
