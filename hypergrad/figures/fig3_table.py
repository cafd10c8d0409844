"""The closing table of Figure 3: what each method came to on each data set."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from hypergrad.figures import run_data
from hypergrad.figures.fig3_data import METHODS, data_sets, ends_of, missing_data, read_parts
from hypergrad.figures.run_data import RunRecord, floats, where

FINAL_COLUMNS = (
    "data method best_outer_step validation_accuracy test_accuracy retrained_mean retrained_std "
    "seeds diverged"
).split()  # described in `final_table`


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
    parts = read_parts(record)
    rows = [
        {"data": data, "method": method, **_final(parts.get((data, method)), method)}
        for data in dict.fromkeys([*data_sets(record, parts), *missing_data(record)])
        for method in METHODS
    ]
    return pd.DataFrame(rows, columns=FINAL_COLUMNS).astype({"best_outer_step": "Int64"})


def _final(part: RunRecord | None, method: str) -> dict[str, object]:
    """One row of `final_table`."""
    row: dict[str, object] = dict.fromkeys(FINAL_COLUMNS[3:7], math.nan)
    row |= {"best_outer_step": None, "seeds": 0, "diverged": 0}
    if part is None:
        return row
    ends = [part.inner.iloc[:0]]
    for seed in part.seeds:
        best = 0 if method == "hd" else part.best_outer_step.get(seed, -1)
        ends.append(where(ends_of(part, method, seed), outer_step=best))
    for name in FINAL_COLUMNS[3:5]:
        values = np.concatenate([floats(table, name) for table in ends])
        row[name] = float(values.mean()) if values.size else math.nan
    if method != "hd" and part.best_outer_step:
        row["best_outer_step"] = part.best_outer_step[min(part.best_outer_step)]
    name = "hd_retrained" if method == "hd" else "ours_retrained"
    retrained = [result for result in part.results if result.method == name]
    finite = [r.test_accuracy for r in retrained if math.isfinite(r.test_accuracy)]
    row["retrained_mean"] = float(np.mean(finite)) if finite else math.nan
    row["retrained_std"] = float(np.std(finite, ddof=1)) if len(finite) > 1 else math.nan
    return row | {"seeds": len(retrained), "diverged": sum(r.diverged for r in retrained)}
