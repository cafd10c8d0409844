"""The data of Figure 1: every line and marker that the figure draws, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from hypergrad.figures.curves import basis_of, curve_of, is_vector
from hypergrad.figures.run_data import RunRecord, floats, integers, where

RETRAINED = ("ours_retrained", "hd_retrained", "sgd", "start")
ACCURACY = "test_accuracy"
VALIDATION_LOSS = "validation_loss"
MAX_POINTS = 500


class Line(NamedTuple):
    """One line of one panel; `epoch`, `value` and `diverged` are `(K,)`, accuracies fractions."""

    panel: str
    method: str  # ours or hd
    outer_step: int | None  # None for hd
    best: bool  # the outer step that is reported
    epoch: np.ndarray
    value: np.ndarray
    diverged: np.ndarray  # where the training loss was not finite
    entry: np.ndarray | None = None  # `(K,)`, of a vector: its entries follow each other


class Final(NamedTuple):
    """A retrained result over seeds: accuracies are fractions, `std` is NaN with one seed."""

    method: str
    epoch: float
    mean: float
    std: float
    seeds: int
    diverged: int


@dataclass(frozen=True)
class Figure1Data:
    """What Figure 1 draws: the lines of one seed, the retrained results of all."""

    seed: int
    hyperparameters: tuple[str, ...]  # a panel each
    lines: tuple[Line, ...]
    finals: tuple[Final, ...]
    steps_per_point: int  # inner steps of hypergradient descent that one drawn point averages
    held: dict[str, float]  # of what is not learned: the value that all outer steps used

    def table(self) -> pd.DataFrame:
        """The same as one tidy table, a row a drawn point.

        Returns:
            Columns panel, method, seed (empty where seeds are averaged), outer_step (empty for
            all but ours), best, epoch, value, std, seeds, diverged (how many of the seeds), and
            of a run that has a vector entry (of it; empty for numbers).
        """
        vectors = any(line.entry is not None for line in self.lines)
        whole = ["seed", "outer_step", *(["entry"] if vectors else [])]
        drawn = [
            pd.DataFrame(
                {
                    "panel": line.panel,
                    "method": line.method,
                    "seed": self.seed,
                    "outer_step": line.outer_step,
                    "best": line.best,
                    "epoch": line.epoch,
                    "value": line.value,
                    "std": math.nan,
                    "seeds": 1,
                    "diverged": line.diverged.astype(np.int64),
                    **({"entry": line.entry} if vectors else {}),
                }
            ).astype({name: "Int64" for name in whole})
            for line in self.lines
        ]
        finals = pd.DataFrame(self.finals, columns=list(Final._fields))
        finals = finals.rename(columns={"mean": "value"})
        finals = finals.assign(panel=ACCURACY, best=False, **dict.fromkeys(whole, pd.NA))
        finals = finals.astype({name: "Int64" for name in whole})
        tables = [*drawn, finals[list(drawn[0].columns)]] if self.finals else drawn
        return pd.concat(tables, ignore_index=True)


def figure_1_data(record: RunRecord) -> Figure1Data:
    """Collect the lines of the first seed and the retrained results over all seeds."""
    if record.outer.empty:
        raise ValueError(
            f"{record.path} has no outer step in outer.csv yet: wait for the first one, "
            "or choose another run with --run PATH"
        )
    seed = int(integers(record.outer, "seed").min())
    steps = len(where(record.hd, seed=seed))
    size = max(1, math.ceil(steps / MAX_POINTS))
    lines = (
        *_our_schedules(record, seed),
        *_hd_schedules(record, seed, size),
        *_accuracies(record, seed),
    )
    finals = [_final(record, method) for method in RETRAINED]
    return Figure1Data(
        seed,
        record.hyperparameters,
        lines,
        tuple(f for f in finals if f is not None),
        size,
        _held(record, seed),
    )


def _our_schedules(record: RunRecord, seed: int) -> list[Line]:
    lines = []
    best = record.best_outer_step.get(seed)
    for kind in record.hyperparameters:
        rows = where(record.outer, seed=seed, kind=kind)
        for outer_step in np.unique(integers(rows, "outer_step")):
            own = where(rows, outer_step=outer_step).sort_values("index")
            basis = basis_of(record, kind, own)
            epoch, value, entry = curve_of(basis, own)
            finite = np.zeros(value.size, dtype=bool)
            step = int(outer_step)
            about = Line(kind, "ours", step, step == best, epoch, value, finite)
            lines.append(about._replace(entry=entry if is_vector(basis) else None))
    return lines


def _held(record: RunRecord, seed: int) -> dict[str, float]:
    """The values that were not learned, as far as they were logged and did not change."""
    inner = where(record.inner, seed=seed, method="ours")
    held = {}
    for name in set(record.named) - set(record.outer["kind"]):
        values = np.unique(floats(inner, name))
        if values.size == 1 and math.isfinite(values[0]):
            held[name] = float(values[0])
    return held


def _hd_schedules(record: RunRecord, seed: int, size: int) -> list[Line]:
    rows = where(record.hd, seed=seed).sort_values("step")
    if rows.empty:
        return []
    epoch = _block_means(floats(rows, "epoch"), size)
    lines = []
    for kind in record.hyperparameters:
        if kind not in rows:
            continue
        value = _block_means(floats(rows, kind), size)
        lines.append(Line(kind, "hd", None, False, epoch, value, ~np.isfinite(value)))
    return lines


def _block_means(values: np.ndarray, size: int) -> np.ndarray:
    """Means of `size` consecutive values (the last block may be shorter); NaN if one is not."""
    starts = np.arange(0, values.size, size)
    counts = np.diff(np.append(starts, values.size))
    finite = np.where(np.isfinite(values), values, np.nan)
    return np.add.reduceat(finite, starts) / counts


def _accuracies(record: RunRecord, seed: int) -> list[Line]:
    """Test accuracies; of a run without a test set, validation losses."""
    lines, seen = [], accuracy_of(record)
    for method in ("ours", "hd"):
        rows = where(record.inner, seed=seed, method=method)
        for outer_step in np.unique(integers(rows, "outer_step")):
            line = where(rows, outer_step=outer_step).sort_values("epoch")
            step = int(outer_step) if method == "ours" else None
            best = step is not None and step == record.best_outer_step.get(seed)
            diverged = ~np.isfinite(floats(line, "train_loss"))
            points = floats(line, "epoch"), floats(line, seen)
            lines.append(Line(ACCURACY, method, step, best, *points, diverged))
    return lines


def accuracy_of(record: RunRecord) -> str:
    """Return the column that the last panel draws: test accuracy, where there is a test set."""
    tested = bool(np.isfinite(floats(record.inner, ACCURACY)).any())
    return ACCURACY if tested or record.inner.empty else VALIDATION_LOSS


def _final(record: RunRecord, method: str) -> Final | None:
    results = [result for result in record.results if result.method == method]
    if not results:
        return None
    epochs = floats(where(record.inner, method=method), "epoch")
    values = [r.test_accuracy for r in results if math.isfinite(r.test_accuracy)]
    return Final(
        method,
        float(epochs.max() if epochs.size else floats(record.outer, "end_epoch").max()),
        float(np.mean(values)) if values else math.nan,
        float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
        len(results),
        sum(result.diverged for result in results),
    )
