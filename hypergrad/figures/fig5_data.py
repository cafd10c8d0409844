"""The data of Figure 5: the settings of a search, their schedules, and what each one reached."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from hypergrad.figures.run_data import (
    Converter,
    RunRecord,
    damaged,
    floats,
    integers,
    read_table,
    where,
)

OVERALL = "overall"
FACTOR = "factor"  # of a decay: no hyperparameter of the optimiser
SYMBOLS = {"learning_rate": "α", FACTOR: "η", "momentum": "β", "weight_decay": "μ"}
LAST_RATE = "last_learning_rate"
_TRIALS: dict[str, Converter] = {
    **dict.fromkeys(("setting", "seed", "diverged"), int),
    **dict.fromkeys(("trial", "schedule", *SYMBOLS), str),
    **dict.fromkeys(("validation_accuracy", "validation_loss", "test_accuracy"), float),
}
_COSINE_POINTS = 101
_FEW = 20


class Candidate(NamedTuple):
    """A setting that a search tried, and what it reached: accuracies are means over seeds."""

    number: int
    # By kind, of a decaying learning rate the first; and `factor`, which only some decays have.
    values: dict[str, tuple[float, ...]]
    validation: tuple[float, float]  # accuracy and loss
    accuracy: float  # the one that is drawn
    std: float  # its standard deviation over seeds; NaN with one
    trials: int
    diverged: int  # trials
    complete: bool  # no seed is missing

    def value_by(self, by: str) -> float:
        """Its place in a panel: its last learning rate, or its largest value otherwise."""
        if by == LAST_RATE:
            return self.values["learning_rate"][-1]
        return max(self.values[by], default=0.0)


class Steps(NamedTuple):
    """A schedule as a step function, `(K,)` each; a smooth one is points (`end` is `start`)."""

    start: np.ndarray  # epochs
    end: np.ndarray  # epochs
    value: np.ndarray


@dataclass(frozen=True)
class Figure5Data:
    """What Figure 5 draws: settings in the order of their numbers."""

    candidates: tuple[Candidate, ...]
    best: int | None  # the number of the one chosen by validation
    schedule: str
    measure: str  # test_accuracy, or validation_accuracy where the search did not test
    epochs: float
    repeats: int  # seeds a setting
    milestones: tuple[float, ...]  # fractions of the run

    @property
    def random(self) -> bool:
        """Whether the settings were drawn at random, as values over windows, or form a grid."""
        return self.schedule == "windows"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds whose schedules are drawn: learning rates, and what was searched."""
        names = (name for name in SYMBOLS if name != FACTOR)
        return tuple(k for k in names if k == "learning_rate" or k not in self.fixed)

    @property
    def fixed(self) -> tuple[str, ...]:
        """The hyperparameters that have the same values in all settings."""
        first = self.candidates[0].values
        return tuple(
            name for name in first if all(s.values[name] == first[name] for s in self.candidates)
        )

    @property
    def panels(self) -> tuple[str, ...]:
        """What accuracies are drawn by: what was searched, and overall or the learning rate."""
        if self.random:
            rates = ("learning_rate", LAST_RATE)
            return (*rates, *(kind for kind in self.kinds if kind != "learning_rate"))
        return (*(name for name in SYMBOLS if name not in self.fixed), OVERALL)

    @property
    def few(self) -> bool:
        """Whether there is room for the standard deviation of each setting of a grid."""
        return not self.random and len(self.candidates) <= _FEW

    def bar(self, candidate: Candidate) -> float:
        """The standard deviation drawn; 0 without one: a diverged seed would be all of it."""
        drawn = self.few and not candidate.diverged and not math.isnan(candidate.std)
        return candidate.std if drawn else 0.0

    def searched(self, by: str) -> list[float]:
        """The different values of a panel, in order."""
        return sorted({one.value_by(by) for one in self.candidates})

    def steps(self, candidate: Candidate, kind: str) -> Steps:
        """The schedule of one kind in one setting."""
        values = np.array(candidate.values[kind])
        edges = np.linspace(0, 1, values.size + 1)
        if kind == "learning_rate" and self.schedule == "multistep":
            edges = np.array([0.0, *self.milestones, 1.0])
            values = values * candidate.values["factor"] ** np.arange(edges.size - 1)
        if kind == "learning_rate" and self.schedule == "cosine":
            share = np.linspace(0, 1, _COSINE_POINTS)
            epoch = self.epochs * share
            return Steps(epoch, epoch, values * (1 + np.cos(math.pi * share)) / 2)
        return Steps(self.epochs * edges[:-1], self.epochs * edges[1:], values)

    def table(self) -> pd.DataFrame:
        """The same as one tidy table, a row a drawn value.

        Returns:
            Columns panel (`schedule`, or the measure), by (the kind, or what the accuracy is drawn
            by: of several values of a kind the largest), setting, best, trials, diverged (how many
            of them), complete, x and end (epochs between which a value was in use; with an
            accuracy x is the setting's place in the panel, and end is empty), value (accuracies
            are fractions) and std (over seeds).
        """
        tables = []
        for one in self.candidates:
            about = {
                "setting": one.number,
                "best": one.number == self.best,
                **{name: getattr(one, name) for name in ("trials", "diverged", "complete")},
            }
            for kind in self.kinds:
                x, end, value = self.steps(one, kind)
                columns = {"x": x, "end": end, "value": value, "std": math.nan}
                tables.append(pd.DataFrame({"panel": "schedule", "by": kind, **about, **columns}))
            x = [math.nan if by == OVERALL else one.value_by(by) for by in self.panels]
            about |= {"panel": self.measure, "by": self.panels, "x": x, "end": math.nan}
            tables.append(pd.DataFrame({**about, "value": one.accuracy, "std": one.std}))
        return pd.concat(tables, ignore_index=True)


def figure_5_data(record: RunRecord) -> Figure5Data:
    """Collect every setting of a search that has a finished trial, as means over its seeds.

    Raises:
        ValueError: there is no finished trial yet, the search is one over hypergradient descent,
            or a file is damaged.
    """
    path = record.path / "trials.csv"
    trials = read_table(path, _TRIALS)
    if trials.empty:
        raise ValueError(
            f"{path} has no finished trial yet: wait for the first one, "
            "or choose another run with --run PATH"
        )
    schedules = sorted(set(trials["schedule"]))
    if "hd" in schedules:
        raise ValueError(
            f"{record.path} searched hypergradient descent, which finds its schedules itself: "
            "choose the run of a grid or a random search with --run PATH"
        )
    kind = record.settings.get("search", "")
    if kind in ("tpe", "hyperband", "random_space"):
        raise ValueError(
            f"{record.path} is a search by {kind}, each of whose seeds tried settings of its own: "
            "choose the run of a grid or a random search with --run PATH"
        )
    if len(schedules) > 1:
        raise ValueError(
            f"{path} mixes the schedules {', '.join(schedules)}: choose the run of one search"
        )
    tested = bool(np.isfinite(floats(trials, "test_accuracy")).all())
    measure = "test_accuracy" if tested else "validation_accuracy"
    repeats = int(_numbers(record, "repeats")[0])
    if "windows" in schedules:  # every seed of a random search draws settings of its own
        trials, repeats = trials.assign(setting=np.arange(len(trials))), 1
    try:
        candidates = tuple(
            _candidate(where(trials, setting=int(number)), measure, repeats)
            for number in np.unique(integers(trials, "setting"))
        )
    except ValueError as error:
        raise damaged(path, error) from error
    return Figure5Data(
        candidates,
        _best(record, candidates, trials),
        schedules[0],
        measure,
        _numbers(record, "epochs")[0],
        repeats,
        _numbers(record, "milestones") if schedules[0] == "multistep" else (),
    )


def _candidate(rows: pd.DataFrame, measure: str, repeats: int) -> Candidate:
    accuracies = floats(rows, measure)
    validation = floats(rows, "validation_accuracy")
    for trial, *pair in zip(rows["trial"], accuracies, validation, strict=True):
        if not all(0 <= value <= 1 for value in pair):
            raise ValueError(f"an accuracy of trial {trial} is no fraction in [0, 1]")
    first = rows.iloc[0]
    values = {name: tuple(float(word) for word in str(first[name]).split()) for name in SYMBOLS}
    needed = ("learning_rate", "factor") if first["schedule"] == "multistep" else ("learning_rate",)
    missing = [name for name in needed if not values[name]]
    if missing:
        raise ValueError(f"trial {first['trial']} has no {' and no '.join(missing)}")
    return Candidate(
        number=int(integers(rows, "setting")[0]),
        values=values,
        validation=(float(validation.mean()), float(floats(rows, "validation_loss").mean())),
        accuracy=float(accuracies.mean()),
        std=float(accuracies.std(ddof=1)) if len(rows) > 1 else math.nan,
        trials=len(rows),
        diverged=int(integers(rows, "diverged").sum()),
        complete=len(rows) >= repeats,
    )


def _best(record: RunRecord, candidates: tuple[Candidate, ...], trials: pd.DataFrame) -> int | None:
    """The setting that the run chose; before it has, the best that has all its seeds."""
    chosen = record.summary.get("best")
    if isinstance(chosen, dict):
        # By what was trained: its number changes when a grid grows. Old runs have the number alone.
        name = "trial" if "trial" in chosen else "setting"
        rows = where(trials, **{name: chosen.get(name, "")})
        if rows.empty:
            raise ValueError(
                f"{record.path}/summary.json names {name} {chosen.get(name)!r} as the best, "
                "which is not in trials.csv: resume the run to rewrite it, or choose another run"
            )
        return int(integers(rows, "setting")[0])
    complete = [c for c in candidates if c.complete and math.isfinite(c.validation[1])]
    best = min(complete, key=lambda c: (-c.validation[0], c.validation[1]), default=None)
    return None if best is None else best.number


def _numbers(record: RunRecord, name: str) -> tuple[float, ...]:
    """The numbers of a setting of the run; at least one."""
    text = record.settings.get(name, "")
    try:
        numbers = tuple(float(word) for word in text.split())
    except ValueError:
        numbers = ()
    if not numbers:
        raise ValueError(
            f"{record.path}/summary.json has {name} {text!r} where numbers belong: "
            "resume the run to rewrite it, or choose another run"
        )
    return numbers
