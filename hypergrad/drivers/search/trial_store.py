"""What is kept of a search: each finished trial is a file, each trial under way a lock.

A file is written whole or not at all, with a checksum, and named after what was trained, so that
nothing can be lost, changed or counted twice. A lock belongs to the process that holds it, and goes
when that process dies.
"""

import hashlib
import json
import math
import re
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import filelock

from hypergrad.core.budget import Spent
from hypergrad.drivers.search.trial import Trial, TrialResult
from hypergrad.runs.atomic import leftovers
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.ground import fixed_digest
from hypergrad.runs.provenance import first_recorded
from hypergrad.runs.records import read_record, write_record

__all__ = ["COLUMNS", "TrialStore", "row_of"]

COLUMNS = (
    "setting seed trial schedule learning_rate factor momentum weight_decay outer_learning_rate "
    "restart validation_accuracy validation_loss test_accuracy train_loss diverged diverged_step "
    "steps gradients products seconds ensemble epochs"
).split()

_NAME = re.compile(r"(final_)?seed\d+_[0-9a-f]{12}")  # a copy that a sync tool made is none
_CONTENT = ("data_fingerprint", "model_source")  # what a trial was trained on and with
_NUMBERS = ("validation_loss", "train_loss")  # may be infinite or NaN, which JSON has no word for


class TrialStore:
    """The finished trials of a search, and claims on those under way.

    Args:
        folder: The run directory; `trials/` and `claims/` are made in it.
    """

    def __init__(self, folder: Path) -> None:
        self._trials = folder / "trials"
        self._claims = folder / "claims"
        for path in (self._trials, self._claims):
            path.mkdir(exist_ok=True)
        self._known: dict[str, TrialResult] = {}
        self._run = run = RunDirectory(folder)
        self._content = {name: first_recorded(run, name) for name in _CONTENT}
        self._content["ground"] = fixed_digest(run)

    def get(self, trial: Trial) -> TrialResult | None:
        """Return what a trial came to, or None if it is not finished as far as is known here."""
        return self._known.get(name_of(trial))

    def count(self, seed: int) -> int:
        """Return how many trials of a seed are finished, final trainings not counted."""
        return sum(name.startswith(f"seed{seed}_") for name in self._known)

    def refresh(self) -> None:
        """Read what other processes have finished.

        Raises:
            ValueError: If a file is damaged, or of other data or another network than this search.
        """
        for path in self._trials.glob("*.json"):
            if path.stem not in self._known and _NAME.fullmatch(path.stem):
                self._known[path.stem] = self._read(path)

    def write(self, trial: Trial, result: TrialResult) -> None:
        """Keep what a trial came to; it is on the disk when this returns."""
        if self._content["ground"] is None:  # the process that leads has only just begun
            self._content["ground"] = fixed_digest(self._run)
        name = name_of(trial)
        found = {**result._asdict(), "spent": result.spent._asdict()}
        for key in _NUMBERS:
            value = found[key]
            if value is not None and not math.isfinite(value):
                found[key] = str(value)
        record = {"seed": trial.seed, "final": trial.final, **trial.candidate.as_dict(), **found}
        record |= self._content
        write_record(self._trials / f"{name}.json", record)
        self._known[name] = result

    def claim(self, trial: Trial) -> filelock.BaseFileLock | None:
        """Claim a trial for this process.

        Args:
            trial: Which is not finished as far as is known here.

        Returns:
            The lock to release once its record is written; None if another process is at it, or
            has finished it meanwhile.
        """
        name = name_of(trial)
        # Claimed in one thread, released in another.
        lock = filelock.FileLock(self._claims / f"{name}.lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            return None
        path = self._trials / f"{name}.json"
        if path.exists():
            self._known[name] = self._read(path)
            lock.release()
            return None
        return lock

    def remove_leftovers(self) -> None:
        """Delete the half-made files of processes that were killed; a live one holds its claim."""
        for path in leftovers(self._trials):
            name = path.name.removeprefix(".").partition(".")[0]
            lock = filelock.FileLock(self._claims / f"{name}.lock", timeout=0)
            try:
                with lock:
                    path.unlink(missing_ok=True)
            except filelock.Timeout:
                continue

    def tidy(self) -> None:
        """Remove the locks of a search that has come to its end."""
        shutil.rmtree(self._claims, ignore_errors=True)

    def _read(self, path: Path) -> TrialResult:
        try:
            record: Mapping = read_record(path)
            fields = {name: record[name] for name in TrialResult._fields}
            for key in _NUMBERS:
                fields[key] = None if fields[key] is None else float(fields[key])
            result = TrialResult(**{**fields, "spent": Spent(**fields["spent"])})
            _check_ranges(result)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is damaged ({error!r}): delete it, and resume") from error
        for name, here in self._content.items():
            there = record.get(name)
            if there is not None and here is not None and there != here:
                raise ValueError(
                    f"{path} is a trial with another {name} ({there}, here {here}): it belongs to "
                    "another search; take it away, and resume"
                )
        return result


def _check_ranges(result: TrialResult) -> None:
    """Refuse numbers that no training comes to.

    Raises:
        ValueError: Naming the first of them.
    """
    shares = {name: getattr(result, name) for name in ("validation_accuracy", "test_accuracy")}
    counts = {"steps": result.steps, "ensemble": result.ensemble, **result.spent._asdict()}
    for name, value in shares.items():
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name}={value} is no share")
    for name, value in counts.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}={value} is no count")


@lru_cache(maxsize=100_000)
def name_of(trial: Trial) -> str:
    """Return the name of a trial's record: a pure function of what is trained.

    The setting's place in the search is no part of it, so that a grid can grow.
    """
    what = {**trial.candidate.as_dict(), "number": None, "seed": trial.seed, "final": trial.final}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return f"{'final_' if trial.final else ''}seed{trial.seed}_{digest[:12]}"


def row_of(trial: Trial, result: TrialResult) -> dict[str, object]:
    """Return a trial as a row of `trials.csv`; several values of a kind are joined by blanks."""
    candidate = trial.candidate

    def joined(values: tuple[float, ...]) -> str:
        return " ".join(repr(value) for value in values)

    return {
        "setting": candidate.number,
        "seed": trial.seed,
        "trial": name_of(trial),
        "schedule": candidate.schedule,
        "learning_rate": joined(candidate.learning_rate),
        "factor": candidate.factor,
        "momentum": joined(candidate.momentum),
        "weight_decay": joined(candidate.weight_decay),
        "outer_learning_rate": candidate.outer_learning_rate,
        "restart": candidate.restart if candidate.schedule == "hd" else None,
        "validation_accuracy": result.validation_accuracy,
        "validation_loss": result.validation_loss,
        "test_accuracy": result.test_accuracy,
        "train_loss": result.train_loss,
        "diverged": int(result.diverged),
        "diverged_step": result.diverged_step,
        "steps": result.steps,
        "gradients": result.spent.gradients,
        "products": result.spent.products,
        "seconds": round(result.spent.seconds, 4),
        "ensemble": result.ensemble,
        "epochs": candidate.epochs,
    }
