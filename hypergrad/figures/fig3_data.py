"""The data of Figure 3: every line and marker that the figure draws, and its closing table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hypergrad.figures import run_data
from hypergrad.figures.run_data import RunRecord, floats, integers, where

LEARNED = ("shared", "unshared")
METHODS = (*LEARNED, "hd")
SCHEDULE = "schedule"
ACCURACY = "validation_accuracy"
COLUMNS = (
    "panel data method seed outer_step best averaged_steps x end value diverged"
).split()  # described in `Figure3Data`
_WHOLE = {"seed": "Int64", "outer_step": "Int64", "best": "bool", "diverged": "bool"}
FINAL_COLUMNS = (
    "data method best_outer_step validation_accuracy test_accuracy retrained_mean retrained_std "
    "seeds diverged"
).split()  # described in `final_table`
Members = dict[tuple[str, str], RunRecord]


@dataclass(frozen=True)
class Figure3Data:
    """What Figure 3 draws.

    `table` has a row a drawn value. Columns: panel (`schedule` or `validation_accuracy`), data,
    method, seed, outer_step (empty for hd), best (by validation accuracy), averaged_steps
    (1: as logged), x (the inner step from which the value was in use; in the accuracy panel the
    outer step, empty for hd, which has none), end (the inner step before which its use
    ended), value (accuracies are fractions), diverged (the loss was not finite).
    """

    table: pd.DataFrame
    data_sets: tuple[str, ...]  # a row of panels each
    absent: dict[str, str]  # data sets without a row, and why
    seeds: dict[str, tuple[int, ...]]  # by data set; the first one's schedules are drawn
    outer_steps: int  # for the colours


def figure_3_data(record: RunRecord) -> Figure3Data:
    """Collect schedules of the first seed of each data set, and accuracies of all seeds.

    Args:
        record: the run; its members are the folders `<data>_<method>` in it.

    Raises:
        ValueError: no member has finished an outer step yet, or one is damaged.
    """
    members = read_members(record)
    absent = missing_data(record)
    tables: list[pd.DataFrame] = []
    seeds: dict[str, tuple[int, ...]] = {}
    for data in data_sets(record, members):
        of_data = {method: members[data, method] for method in METHODS if (data, method) in members}
        tables_of_data, seeds_of_data = [], sorted({s for m in of_data.values() for s in m.seeds})
        for method, member in of_data.items():
            found = _schedules(member, method, seeds_of_data[:1]) + _accuracies(member, method)
            tables_of_data += [rows.assign(data=data, method=method) for rows in found]
        if tables_of_data:
            tables += tables_of_data
            seeds[data] = tuple(seeds_of_data)
        else:
            absent.setdefault(data, "no outer step yet")
    if not tables:
        raise ValueError(
            f"{record.path} has no outer step in any member yet: wait for the first one, "
            "or choose another run with --run PATH"
        )
    table = pd.concat([rows.astype(_WHOLE) for rows in tables], ignore_index=True)
    table = table.reindex(columns=COLUMNS)
    steps = floats(table.loc[table["method"] != "hd"], "outer_step")
    logged = 1 + int(steps.max(initial=0))
    planned = record.settings.get("outer_steps", "")
    if not record.finished and planned.isdigit():
        # An unfinished run has the colours of the finished one already, unless it stops early.
        logged = max(logged, int(planned))
    absent = {data: why for data, why in absent.items() if data not in seeds}
    return Figure3Data(table, tuple(seeds), absent, seeds, logged)


def moving_average(values: np.ndarray, width: int) -> np.ndarray:
    """Centred means of `width` (odd) values, of fewer towards the ends.

    >>> moving_average(np.array([0.0, 3.0, 6.0, 0.0]), 3).tolist()
    [1.5, 3.0, 3.0, 3.0]
    """
    half = width // 2
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(values.size)])


def read_members(record: RunRecord) -> Members:
    """Read the members of a run that have a directory, by data set and method."""
    members = {}
    for folder in sorted(path for path in record.path.iterdir() if path.is_dir()):
        data, _, method = folder.name.rpartition("_")
        if data and method in METHODS:
            members[data, method] = run_data.read_run(folder)
    return members


def data_sets(record: RunRecord, members: Members) -> list[str]:
    """The data sets of a run, in the order in which it goes through them."""
    # Runs made before `members` call them `parts`.
    listed = record.summary.get("members", record.summary.get("parts"))
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    found = [name.rpartition("_")[0] for name in names] + [data for data, _ in members]
    return list(dict.fromkeys(data for data in found if data))


def missing_data(record: RunRecord) -> dict[str, str]:
    """The data sets that a run goes without, and why."""
    missing = record.summary.get("missing")
    return {str(k): str(why) for k, why in missing.items()} if isinstance(missing, dict) else {}


def _schedules(member: RunRecord, method: str, seeds: list[int]) -> list[pd.DataFrame]:
    """Learning rates as logged and, for the best one of the unshared, their moving average."""
    tables = []
    for seed in seeds:
        if method == "hd":
            rows = where(member.hd, seed=seed).sort_values("step", kind="stable")
            start = floats(rows, "step")
            columns = {"x": start, "end": start + 1, "value": floats(rows, "learning_rate")}
            tables += [_rows(SCHEDULE, seed, None, False, columns)] if start.size else []
            width = _width(start.size)
            if width > 1:
                value = columns["value"]
                columns["value"] = moving_average(
                    np.where(np.isfinite(value), value, np.nan), width
                )
                smooth = _rows(SCHEDULE, seed, None, False, columns)
                tables.append(smooth.assign(averaged_steps=width))
            continue
        rows = where(member.outer, seed=seed, kind="learning_rate")
        per_epoch = _steps_per_epoch(member, seed) if len(rows) else math.nan
        for outer_step in np.unique(integers(rows, "outer_step")):
            line = where(rows, outer_step=outer_step).sort_values("index")
            start, end = (floats(line, column) for column in ("start_epoch", "end_epoch"))
            columns = {"x": np.rint(start * per_epoch), "end": np.rint(end * per_epoch)}
            columns["value"] = floats(line, "value")
            best = member.best_outer_step.get(seed) == outer_step
            tables.append(_rows(SCHEDULE, seed, outer_step, best, columns))
            width = _width(start.size)
            if method == "unshared" and best and width > 1:
                columns["value"] = moving_average(columns["value"], width)
                smooth = _rows(SCHEDULE, seed, outer_step, True, columns)
                tables.append(smooth.assign(averaged_steps=width))
    return tables


def _width(steps: int) -> int:
    """Steps that a moving average is over: an odd number, a 25th of the run."""
    return 2 * round(steps / 50) + 1


def _accuracies(member: RunRecord, method: str) -> list[pd.DataFrame]:
    """The validation accuracy at the end of every outer step, or of the run for hd."""
    tables = []
    for seed in member.seeds:
        ends = ends_of(member, method, seed)
        losses = floats(ends, "train_loss") + floats(ends, "validation_loss")
        columns = {"value": floats(ends, ACCURACY), "diverged": ~np.isfinite(losses)}
        if method == "hd":
            table = _rows(ACCURACY, seed, None, False, columns)
        else:
            steps = integers(ends, "outer_step")
            best = steps == member.best_outer_step.get(seed, -1)
            table = _rows(ACCURACY, seed, steps, best, {"x": steps.astype(float), **columns})
        tables += [table] if len(table) else []
    return tables


def _rows(
    panel: str,
    seed: int,
    outer_step: np.ndarray | None,
    best: np.ndarray | bool,
    columns: dict[str, np.ndarray],
) -> pd.DataFrame:
    """Rows of the table; what is not given is as for one value of a schedule, without a place."""
    given = {"averaged_steps": 1, "x": math.nan, "end": math.nan, "diverged": False, **columns}
    step = pd.NA if outer_step is None else outer_step
    return pd.DataFrame({"panel": panel, "seed": seed, "outer_step": step, "best": best, **given})


def ends_of(member: RunRecord, method: str, seed: int) -> pd.DataFrame:
    """The last row of `inner.csv` of every outer step that has ended (of hd: of its run)."""
    name = "hd" if method == "hd" else "ours"
    rows = where(member.inner, seed=seed, method=name).sort_values(["outer_step", "step"])
    steps = integers(rows, "outer_step")
    last = np.append(steps[1:] != steps[:-1], True)[: steps.size]
    if method != "hd":
        # Rows of outer.csv are written when the outer step is over.
        over = np.isin(steps, integers(where(member.outer, seed=seed), "outer_step"))
    elif any(result.seed == seed and result.method == "hd" for result in member.results):
        over = last
    else:
        horizon = float(member.settings.get("epochs", "nan"))
        over = floats(rows, "epoch") >= horizon * (1 - 1e-9)
    return rows.take(np.flatnonzero(last & over))


def _steps_per_epoch(member: RunRecord, seed: int) -> float:
    rows = where(member.inner, seed=seed, method="ours")
    if rows.empty:
        raise ValueError(
            f"{member.path}/inner.csv lacks the rows of seed {seed} that outer.csv has: "
            "resume the run to rewrite it, or choose another run"
        )
    last = int(np.argmax(floats(rows, "step")))
    return float(np.rint(floats(rows, "step")[last] / floats(rows, "epoch")[last]))


def final_table(path: Path) -> pd.DataFrame:
    """The closing table of a run: what the best outer step scored, and retraining with it.

    Args:
        path: the run directory, finished or not.

    Returns:
        A row a data set and method; columns data, method, best_outer_step (of the first seed;
        empty for hd), validation_accuracy and test_accuracy (at the end of each seed's best
        outer step, for hd of its run; means over seeds), retrained_mean and retrained_std
        (finite test accuracies of the retrained seeds), seeds (that were retrained) and diverged
        (how many of them). Accuracies are fractions; NaN where there is none.

    Raises:
        ValueError: there is no such directory, or a file in it is not what a run writes.
    """
    record = run_data.read_run(path)
    members = read_members(record)
    rows = [
        {"data": data, "method": method, **_final(members.get((data, method)), method)}
        for data in dict.fromkeys([*data_sets(record, members), *missing_data(record)])
        for method in METHODS
    ]
    return pd.DataFrame(rows, columns=FINAL_COLUMNS).astype({"best_outer_step": "Int64"})


def _final(member: RunRecord | None, method: str) -> dict[str, object]:
    """One row of `final_table`."""
    row: dict[str, object] = dict.fromkeys(FINAL_COLUMNS[3:7], math.nan)
    row |= {"best_outer_step": None, "seeds": 0, "diverged": 0}
    if member is None:
        return row
    ends = [member.inner.iloc[:0]]
    for seed in member.seeds:
        best = 0 if method == "hd" else member.best_outer_step.get(seed, -1)
        ends.append(where(ends_of(member, method, seed), outer_step=best))
    for name in FINAL_COLUMNS[3:5]:
        values = np.concatenate([floats(table, name) for table in ends])
        row[name] = float(values.mean()) if values.size else math.nan
    if method != "hd" and member.best_outer_step:
        row["best_outer_step"] = member.best_outer_step[min(member.best_outer_step)]
    name = "hd_retrained" if method == "hd" else "ours_retrained"
    retrained = [result for result in member.results if result.method == name]
    finite = [r.test_accuracy for r in retrained if math.isfinite(r.test_accuracy)]
    row["retrained_mean"] = float(np.mean(finite)) if finite else math.nan
    row["retrained_std"] = float(np.std(finite, ddof=1)) if len(finite) > 1 else math.nan
    return row | {"seeds": len(retrained), "diverged": sum(r.diverged for r in retrained)}
