"""The data of Table 1: what every cell came to, gathered from the runs that hold it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from scipy.stats import ttest_ind_from_stats

from hypergrad.figures import figures_of, run_data
from hypergrad.figures.run_data import FinalResult
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.plain_files import check_member_name

ROWS = {
    "random": "Random search",
    "hd": "Hypergradient descent",
    "ours": "Ours (learned schedule)",
    "grid": "Hand-tuned (best)",
}
COLUMNS = {"mnist": "MNIST", "svhn": "SVHN", "cifar10": "CIFAR-10", "digits": "Digits"}


LEVEL = 0.05  # a difference with a larger p-value is called not significant
SETTINGS = ("data", "model", "scale", "epochs", "budget")  # equal in all seeds of a cell
_SETUP = "setup"  # stands for everything else that a result depends on
_METHODS = {"ours": "ours_retrained"}  # the result that counts; other rows have their own name


class Cell(NamedTuple):
    """A cell; numbers are NaN and texts empty where there is nothing to tell."""

    row: str  # a key of `ROWS`
    column: str  # a key of `COLUMNS`, or a data set without a title
    status: str  # finished; partial if some seeds have no result; missing if none has
    n: int  # seeds with a result
    mean: float  # of their test accuracies, in [0, 1]
    std: float  # sample standard deviation of the same
    best: bool  # whether the mean is the highest of its column; of several when equal
    p_value: float  # of the difference to the best; NaN for the best, or where it is not tested
    diverged: int  # seeds whose final training diverged; they count, as chance
    seeds: str  # which seeds, in order, with spaces between
    # Spent by the search behind a seed's result, means over seeds.
    seconds: float
    gradients: float
    products: float  # Hessian products, each worth two gradient evaluations
    trials: float  # settings or outer steps tried
    # As the runs say, the same in all of them.
    data: str
    model: str
    scale: str
    epochs: str
    budget: str  # of the search, such as `4min`, `100trials` or `2e6gradients`
    reason: str  # why seeds are missing

    @property
    def row_title(self) -> str:
        """The row's name for people."""
        return ROWS[self.row]

    @property
    def column_title(self) -> str:
        """The column's name for people."""
        return COLUMNS.get(self.column, self.column)


def cells_of(table: pd.DataFrame) -> list[Cell]:
    """The rows of a table of cells."""
    return [Cell(**{str(k): v for k, v in row.items()}) for row in table.to_dict("records")]


class CellRun(NamedTuple):
    """One run of a cell, or the place where a table run will have it.

    `seeds` are those asked of it, `results` and `spent` those that it holds, by seed; `reason`
    says why a seed asked for has no result.
    """

    path: Path
    row: str
    column: str
    seeds: tuple[int, ...]
    settings: dict[str, str]
    results: dict[int, FinalResult]
    spent: dict[int, dict[str, object]]
    reason: str


def read_cells(paths: Sequence[Path]) -> pd.DataFrame:
    """Read the cells of Table 1 from table runs, from single cell runs, or from both.

    Args:
        paths: directories of runs, finished or not.

    Returns:
        A row a cell, in the order of the paper's rows, then of its columns; the columns are the
        fields of `Cell`. A data set without a run, and that no table run asks for, is left out.

    Raises:
        ValueError: there is no run, no cell in them, or no such directory; two runs hold the same
            seed of a cell, or seeds of one cell under different settings; a file is damaged.
    """
    runs = [run for path in paths for run in _cell_runs(path)]
    if not runs:
        raise ValueError(
            f"no cell of Table 1 in {', '.join(map(str, paths)) or 'no run'}: give a run of "
            "table1, or of one of its cells, as `hypergrad runs` lists them"
        )
    found = {run.column for run in runs}
    columns = [key for key in COLUMNS if key in found] + sorted(found - COLUMNS.keys())
    cells = [
        _cell(row, column, [run for run in runs if (run.row, run.column) == (row, column)])
        for row in ROWS
        for column in columns
    ]
    return pd.DataFrame(_against_best(cells))


def _cell_runs(path: Path) -> list[CellRun]:
    """The cell runs of a directory: itself, or those that it is made of."""
    if not path.is_dir():
        raise ValueError(f"no run directory at {path}: `hypergrad runs` lists the runs there are")
    summary = RunDirectory(path).read_summary()
    if "table1" in figures_of(summary):
        return _planned(path, summary)
    settings = run_data.settings_of(summary)
    # Runs made before `table_column` call it `column`.
    row, column = (
        settings.get("search", ""),
        settings.get("table_column", settings.get("column", "")),
    )
    if row not in ROWS or not column:
        raise ValueError(
            f"{path} is no run of a cell of Table 1 (search {row!r}, column {column!r}): give a "
            f"run of table1, or one whose search is {', '.join(ROWS)}"
        )
    return [_cell_run(path, row, column, (), "")]


def _planned(path: Path, summary: dict[str, object]) -> list[CellRun]:
    """The cell runs that a table run has or is to have."""
    settings = run_data.settings_of(summary)
    rows, columns, seeds = (settings.get(key, "").split() for key in ("rows", "columns", "seeds"))
    unknown = [row for row in rows if row not in ROWS]
    if unknown:
        raise ValueError(
            f"{path} asks for the row {', '.join(unknown)}: Table 1 has {', '.join(ROWS)}; was it "
            "written by another version?"
        )
    for column in columns:
        check_member_name(column)
    missing = run_data.mapping(summary.get("missing"))
    runs = []
    for column in columns:
        reason = str(missing.get(column, "not started"))
        for row in rows:
            # The grid is searched once, and its settings are compared over all seeds.
            members = {"grid": seeds} if row == "grid" else {f"{row}_seed{k}": [k] for k in seeds}
            for name, own in members.items():
                asked = tuple(map(int, own))
                runs.append(_cell_run(path / f"{column}_{name}", row, column, asked, reason))
    return runs


def _cell_run(path: Path, row: str, column: str, seeds: tuple[int, ...], not_begun: str) -> CellRun:
    """Read one cell run; only a finished one has results."""
    summary = RunDirectory(path).read_summary()
    method, status = _METHODS.get(row, row), summary.get("status")
    results, spent = {}, {}
    if not summary:
        reason = not_begun
    elif status == "failed":
        reason = "failed"
    elif status != "finished":
        reason = f"not finished ({run_data.progress_text(summary)})"
    else:
        reason = f"no test accuracy of {method}"
        results = {
            result.seed: result
            for result in run_data.results_of(summary)
            if result.method == method and math.isfinite(result.test_accuracy)
        }
        entries = run_data.mappings(summary.get("spent"))
        spent = {run_data.integer(entry.get("seed")): entry for entry in entries}
    settings = run_data.settings_of(summary)
    return CellRun(path, row, column, seeds, settings, results, spent, reason)


def _cell(row: str, column: str, runs: Sequence[CellRun]) -> Cell:
    """Put the runs of one cell together; which is best of the column is not known here."""
    holders: dict[int, CellRun] = {}
    for run in runs:
        for seed in run.results:
            if seed in holders:
                raise ValueError(
                    f"{holders[seed].path} and {run.path} both hold seed {seed} of {row} on "
                    f"{column}: give only one of them"
                )
            holders[seed] = run
    seeds = sorted(holders)
    results = [holders[seed].results[seed] for seed in seeds]
    accuracies = [result.test_accuracy for result in results]
    reason = _why_missing(runs, seeds)
    _common(_SETUP, row, column, holders.values())  # refuses what does not belong together
    return Cell(
        row=row,
        column=column,
        status=("partial" if reason else "finished") if seeds else "missing",
        n=len(seeds),
        # Exact arithmetic: equal accuracies have a deviation of zero, not of a rounding error.
        mean=statistics.mean(accuracies) if seeds else math.nan,
        std=statistics.stdev(accuracies) if len(seeds) > 1 else math.nan,
        best=False,
        p_value=math.nan,
        diverged=sum(result.diverged for result in results),
        seeds=" ".join(map(str, seeds)),
        seconds=_mean_spent("seconds", holders),
        gradients=_mean_spent("gradients", holders),
        products=_mean_spent("products", holders),
        trials=_mean_spent("trials", holders),
        **{key: _common(key, row, column, holders.values()) for key in SETTINGS},
        reason=reason,
    )


def _why_missing(runs: Sequence[CellRun], seeds: Sequence[int]) -> str:
    """Why seeds have no result, in words; empty when every one that was asked for has one."""
    if not runs:
        return "not asked for"
    reasons: dict[str, set[int]] = {}
    for run in runs:
        left = set(run.seeds).difference(seeds)
        if left or not (run.seeds or run.results):
            reasons.setdefault(run.reason, set()).update(left)
    if not seeds and len(reasons) == 1:
        return next(iter(reasons))
    return "; ".join(f"{_seed_text(left)}: {reason}" for reason, left in reasons.items())


def _seed_text(seeds: set[int]) -> str:
    """Which seeds; those of an unfinished run given alone are not known.

    >>> _seed_text({2, 1}), _seed_text({3}), _seed_text(set())
    ('seeds 1, 2', 'seed 3', 'a run')
    """
    numbers = ", ".join(map(str, sorted(seeds)))
    return f"seed{'s' if len(seeds) > 1 else ''} {numbers}" if seeds else "a run"


def _mean_spent(key: str, holders: dict[int, CellRun]) -> float:
    """The mean over seeds of what their searches spent; NaN where one does not say."""
    values = [holder.spent.get(seed, {}).get(key) for seed, holder in holders.items()]
    known = [float(value) for value in values if isinstance(value, int | float)]
    return statistics.mean(known) if known and len(known) == len(values) else math.nan


def _common(key: str, row: str, column: str, runs: Iterable[CellRun]) -> str:
    """What all runs of a cell have as a setting; empty where no run says it."""
    paths = {run.settings.get(key, ""): run.path for run in runs}
    if len(paths) > 1:
        (one, first), (other, second) = list(paths.items())[:2]
        raise ValueError(
            f"{first} and {second} hold {row} on {column} with {key} {one!r} and {other!r}: "
            "give runs of one setting"
        )
    return next(iter(paths), "")


def _against_best(cells: Sequence[Cell]) -> list[Cell]:
    """Mark the best mean of each column, and test the other rows against it."""
    marked = []
    for cell in cells:
        rivals = [other for other in cells if other.n and other.column == cell.column]
        best = max(rivals, key=lambda rival: rival.mean, default=cell)
        is_best = cell.n > 0 and cell.mean == best.mean
        p_value = math.nan if is_best else _welch(best, cell)
        marked.append(cell._replace(best=is_best, p_value=p_value))
    return marked


def _welch(one: Cell, other: Cell) -> float:
    """The two-sided p-value of Welch's t-test; NaN without a second seed or any variance."""
    if min(one.n, other.n) < 2 or one.std == other.std == 0:
        return math.nan
    test = ttest_ind_from_stats(
        one.mean, one.std, one.n, other.mean, other.std, other.n, equal_var=False
    )
    return float(test.pvalue)
