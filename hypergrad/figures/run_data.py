"""Reading a run directory, finished or not, into plain tables."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from hypergrad.core.basis import Basis, basis_from
from hypergrad.figures import figures_of
from hypergrad.runs import plain_files as files
from hypergrad.runs.shown import short

Converter = type[int] | type[float] | type[str]
_INNER: dict[str, Converter] = {
    **dict.fromkeys(("seed", "outer_step", "step"), int),
    "method": str,
    **dict.fromkeys(
        ("epoch", "train_loss", "validation_loss", "validation_accuracy", "test_accuracy"), float
    ),
}
_OUTER: dict[str, Converter] = {
    **dict.fromkeys(("seed", "outer_step", "index"), int),
    "kind": str,
    **dict.fromkeys(("start_epoch", "end_epoch", "value", "hypergradient"), float),
}
_HD: dict[str, Converter] = {**dict.fromkeys(("seed", "step"), int), "epoch": float}
_HYPERGRADIENT = "_hypergradient"  # after a name in hd.csv


class FinalResult(NamedTuple):
    """One retrained result of one seed; accuracies are fractions, NaN where there is none."""

    seed: int
    method: str
    test_accuracy: float
    diverged: bool
    outer_step: int | None


@dataclass(frozen=True)
class RunRecord:
    """What a run directory holds; tables are empty where nothing has been written yet.

    `figures` names those that it is drawn as. `inner`, `outer` and `hd` hold the columns that
    figures need of the CSV files of the same name, among them one a hyperparameter in `inner`
    (`named` has their names) and in `hd`; `outer` always has `basis`. `summary` is
    `summary.json`, `best_outer_step` maps a seed to the outer step that was chosen, and `bases`
    are those in `schedule.json`: of the values that are not over windows.
    """

    path: Path
    experiment: str
    figures: tuple[str, ...]
    settings: dict[str, str]
    summary: dict[str, object]
    results: tuple[FinalResult, ...]
    best_outer_step: dict[int, int]
    bases: dict[str, Basis]
    named: tuple[str, ...]
    inner: pd.DataFrame
    outer: pd.DataFrame
    hd: pd.DataFrame
    finished: bool

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that have written anything, in order."""
        seen = {result.seed for result in self.results}
        for table in (self.inner, self.outer, self.hd):
            seen.update(int(seed) for seed in table["seed"].unique())
        return tuple(sorted(seen))

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """Those with a panel of their own: what was learned, and of SGD's three the others too."""
        learned = tuple(dict.fromkeys(self.outer["kind"]))
        if not set(self.named) - set(learned):
            return learned
        from hypergrad.core.rules.sgd import NAMES  # loads torch, which drawing need not wait for

        own = NAMES if set(NAMES) <= set(self.named) else ()
        return tuple(dict.fromkeys((*own, *learned)))


def read_run(path: Path) -> RunRecord:
    """Read a run directory, leaving out the half-written last line of a CSV.

    Raises:
        ValueError: there is no such directory, or a file in it is not what a run writes.
    """
    if not path.is_dir():
        raise ValueError(f"no run directory at {path}: `hypergrad runs` lists the runs there are")
    summary = mapping(read_json(path / "summary.json"))
    results = results_of(summary)
    schedules = mapping(read_json(path / "schedule.json")).get("schedules")
    best = {
        integer(entry.get("seed")): integer(entry.get("outer_step"))
        for entry in mappings(schedules)
        if "outer_step" in entry  # a search has no outer steps
    }
    for result in results:
        if result.method == "ours_retrained" and result.outer_step is not None:
            best[result.seed] = result.outer_step
    inner = read_table(path / "inner.csv", _INNER, _inner_names)
    outer = read_table(path / "outer.csv", _OUTER, _basis_column)
    if "basis" not in outer:
        outer["basis"] = "windows"  # no run had anything else before it had the column
    return RunRecord(
        path=path,
        experiment=str(summary.get("experiment", "")),
        figures=figures_of(summary),
        settings=settings_of(summary),
        summary=summary,
        results=results,
        best_outer_step=best,
        bases=_bases(path / "schedule.json", mappings(schedules)),
        named=tuple(name for name in inner if name not in _INNER),
        inner=inner,
        outer=outer,
        hd=read_table(path / "hd.csv", _HD, _hd_names),
        finished=summary.get("status") == "finished",
    )


def status_mark(record: RunRecord) -> str:
    """The words that mark an unfinished run in a picture; empty for a finished one."""
    if record.finished:
        return ""
    return f"UNFINISHED RUN ({progress_text(record.summary)})"


def progress_text(summary: dict[str, object]) -> str:
    """How far a run has come, in words.

    >>> progress_text({"status": "running", "progress": {"fraction": 0.4}})
    'running, 40 %'
    """
    status = str(summary.get("status", "no summary yet"))
    fraction = mapping(summary.get("progress")).get("fraction")
    percent = f", {100 * fraction:.0f} %" if isinstance(fraction, int | float) else ""
    return f"{status}{percent}"


def settings_of(summary: dict[str, object]) -> dict[str, str]:
    """The settings in a summary as text; those that are null are left out."""
    settings = mapping(summary.get("settings"))
    return {key: str(value) for key, value in settings.items() if value is not None}


def results_of(summary: dict[str, object]) -> tuple[FinalResult, ...]:
    """The results in a summary, in their order."""
    return tuple(_result(entry) for entry in mappings(summary.get("results")))


def mapping(value: object) -> dict[str, object]:
    """An object as JSON holds it; empty where there is none."""
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else {}


def mappings(value: object) -> list[dict[str, object]]:
    """A list of such objects; empty where there is none."""
    return [mapping(entry) for entry in value] if isinstance(value, list) else []


def where(table: pd.DataFrame, **equal: int | str) -> pd.DataFrame:
    """The rows of a table whose columns equal the given values, in their order."""
    keep = np.ones(len(table), dtype=bool)
    for column, value in equal.items():
        keep &= np.asarray(table[column] == value, dtype=bool)
    return table.take(np.flatnonzero(keep))


def floats(table: pd.DataFrame, column: str) -> np.ndarray:
    """A column as float64."""
    return np.asarray(table[column], dtype=np.float64)


def integers(table: pd.DataFrame, column: str) -> np.ndarray:
    """A column of whole numbers as int64."""
    return np.asarray(table[column], dtype=np.int64)


def integer(value: object) -> int:
    """A whole number as JSON holds it."""
    if not isinstance(value, int):
        raise ValueError(f"{value!r} stands where a whole number belongs: choose another run")
    return value


def read_text(path: Path) -> str:
    """The whole lines of a CSV file, or of its gzipped form; empty where there is neither.

    A line without its newline may be cut inside a number and still parse, so it is never read.
    """
    zipped = path.with_name(f"{path.name}.gz")
    if not os.path.lexists(path) and os.path.lexists(zipped):
        path = zipped
    try:
        text = files.read_csv_bytes(path).decode("utf-8") if os.path.lexists(path) else ""
    except ValueError as error:
        raise damaged(path, error) from error
    return text[: text.rfind("\n") + 1]


def damaged(path: Path, why: object) -> ValueError:
    """The error that a file of a run is not what a run writes."""
    text = short(str(why).removeprefix(f"{path} "))
    return ValueError(
        f"{path} is damaged ({text}): resume the run to rewrite it, or choose another run"
    )


def read_table(
    path: Path,
    columns: Mapping[str, Converter],
    more: Callable[[Sequence[str]], Mapping[str, Converter]] = lambda header: {},
) -> pd.DataFrame:
    """Read columns of a CSV file, which may be gzipped, without its half-written last line.

    Args:
        path: the file; one that is missing or empty is a table without rows.
        columns: what each column needed holds; an empty field of a `float` is NaN.
        more: maps the header to the same of further columns, which a file may have.

    Returns:
        Those columns, exactly as logged.

    Raises:
        ValueError: a column is missing, or a field is not what it should be.
    """
    try:
        header, *rows = list(csv.reader(read_text(path).splitlines())) or [list(columns)]
    except csv.Error as error:
        raise damaged(path, error) from error
    missing = [name for name in columns if name not in header]
    if missing:
        raise ValueError(
            f"{path} lacks the column {', '.join(missing)}: was it written by another version? "
            "Draw it with that version, or choose another run"
        )
    columns = {**columns, **more(header)}
    try:
        fields = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
        # Python's own conversion is exact: what is drawn is what was logged, to the last bit.
        return pd.DataFrame(
            {name: _column(fields.get(name, ()), convert) for name, convert in columns.items()}
        )
    except (ValueError, OverflowError) as error:
        raise damaged(path, error) from error


def _inner_names(header: Sequence[str]) -> dict[str, Converter]:
    """The hyperparameters of `inner.csv`, in its order."""
    if "seconds" not in header:
        return {}
    own = header[header.index("test_accuracy") + 1 : header.index("seconds")]
    return dict.fromkeys(own, float)


def _hd_names(header: Sequence[str]) -> dict[str, Converter]:
    """The hyperparameters of `hd.csv`: what has no other column's name before its ending."""
    return {
        name: float
        for name in header
        if name not in _HD and name.removesuffix(_HYPERGRADIENT) not in {*header} - {name}
    }


def _basis_column(header: Sequence[str]) -> dict[str, Converter]:
    return {"basis": str} if "basis" in header else {}


def _bases(path: Path, schedules: list[dict[str, object]]) -> dict[str, Basis]:
    """The bases that the schedules of a run name; all its seeds have the same."""
    kept = {name: each for entry in schedules for name, each in mapping(entry.get("bases")).items()}
    try:
        return {name: basis_from(mapping(each)) for name, each in kept.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error


def _column(texts: tuple[str, ...], convert: Converter) -> np.ndarray:
    if convert is float:
        texts = tuple(text or "nan" for text in texts)
    return np.array([convert(text) for text in texts], dtype=object if convert is str else convert)


def read_json(path: Path) -> object:
    """Return the content of a JSON file, or None if it is missing."""
    if not os.path.lexists(path):
        return None
    try:
        return files.read_json(path)
    except ValueError as error:
        raise damaged(path, error) from error


def _result(entry: dict[str, object]) -> FinalResult:
    accuracy = entry.get("test_accuracy")
    outer_step = entry.get("outer_step")
    return FinalResult(
        seed=integer(entry.get("seed")),
        method=str(entry.get("method")),
        test_accuracy=float(accuracy) if isinstance(accuracy, int | float) else math.nan,
        diverged=entry.get("diverged") is True,
        outer_step=None if outer_step is None else integer(outer_step),
    )
