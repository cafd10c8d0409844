"""What stands above and below Table 1: its caption, its marks explained, what was spent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd

from hypergrad.figures.table1_data import LEVEL, ROWS, SETTINGS, Cell, cells_of

NOT_SIGNIFICANT, DIVERGED, MISSING = "†", "‡", "–"
CAPTION = (
    "Test accuracy in %, mean ± sample standard deviation over n seeds, after a training on the "
    "whole training set with what each search chose."
)
_BUDGETED = ("random", "hd", "ours")


def marks(cell: Cell) -> str:
    """The marks behind a cell's number that `footnotes` explains."""
    doubtful = NOT_SIGNIFICANT if cell.p_value >= LEVEL else ""
    return doubtful + (DIVERGED if cell.diverged else "")


def footnotes(table: pd.DataFrame, best: str) -> list[str]:
    """Everything that the numbers alone do not say, a text a note; `best` marks the best mean."""
    cells = cells_of(table)
    notes = []
    if any(cell.best for cell in cells):
        notes.append(f"{best}: the best mean of its column.")
    notes += _significance(cells) + _diverged(cells) + _missing(cells)
    shown = [cell for cell in cells if cell.n]
    if shown:
        notes.append(
            "Spent by the search behind each cell, means over seeds, without the final training "
            "(a Hessian product counts as two gradient evaluations):"
        )
    notes += [
        _spent([cell for cell in shown if cell.column == column])
        for column in dict.fromkeys(cell.column for cell in shown)
    ]
    if any(cell.row == "grid" for cell in shown):
        notes.append(f"{ROWS['grid']} has had no budget: its whole grid was searched.")
    return notes


def _significance(cells: Sequence[Cell]) -> list[str]:
    notes = []
    tested = [cell for cell in cells if math.isfinite(cell.p_value)]
    if tested:
        notes.append(
            "p-values of Welch's t-test against the best (two-sided, not corrected for several "
            f"rows): {_by_column(tested, lambda cell: f'{cell.row_title} {_p_text(cell.p_value)}')}"
            f". {NOT_SIGNIFICANT}: p ≥ {LEVEL}, the difference is not significant."
        )
    untested = [cell for cell in cells if cell.n and not cell.best and math.isnan(cell.p_value)]
    if untested:
        names = _by_column(untested, lambda cell: cell.row_title)
        notes.append(f"Not tested, for want of a second seed or of any variance: {names}.")
    return notes


def _diverged(cells: Sequence[Cell]) -> list[str]:
    diverged = [cell for cell in cells if cell.diverged]
    if not diverged:
        return []
    names = _by_column(diverged, lambda cell: f"{cell.row_title} {cell.diverged} of {cell.n}")
    return [f"{DIVERGED}: final trainings that diverged, counted as chance: {names}."]


def _missing(cells: Sequence[Cell]) -> list[str]:
    notes = []
    for reason in dict.fromkeys(cell.reason for cell in cells if cell.reason):
        missing = [cell for cell in cells if cell.reason == reason]
        notes.append(f"Missing, {reason} – {_by_column(missing, lambda cell: cell.row_title)}.")
    return notes


def _spent(cells: Sequence[Cell]) -> str:
    """The note of one column: its settings, and what each of its searches spent."""
    settings = ", ".join(
        f"{key} {' or '.join(values)}"
        for key in SETTINGS
        if (values := _values(cells, key)) and values != [cells[0].column]
    )
    spent = "; ".join(f"{cell.row_title} {_spent_text(cell)}" for cell in cells)
    head = f"{cells[0].column_title} ({settings})" if settings else cells[0].column_title
    return f"{head}: {spent}. {_fairness(cells)}".rstrip()


def _values(cells: Sequence[Cell], key: str) -> list[str]:
    """What the cells of a column have as a setting; a grid has no budget."""
    own = [cell for cell in cells if key != "budget" or cell.row in _BUDGETED]
    return list(dict.fromkeys(value for cell in own if (value := getattr(cell, key))))


def _fairness(cells: Sequence[Cell]) -> str:
    """How far apart the searches with a budget are, in the unit of the budget."""
    budgets = _values(cells, "budget")
    if len(budgets) != 1:
        return "Budgets differ: what was spent is not compared." if budgets else ""
    unit, amount = _measure(budgets[0])
    amounts = [
        (amount(cell), cell)
        for cell in cells
        if cell.row in _BUDGETED and math.isfinite(amount(cell))
    ]
    if len(amounts) < 2:
        return ""
    (least, thrifty), (most, lavish) = (
        choose(amounts, key=lambda pair: pair[0]) for choose in (min, max)
    )
    if least == most:
        return f"All with a budget spent the same number of {unit}."
    share = 100 * (most - least) / most
    return (
        f"Largest difference between those with a budget, in {unit}: {share:.1f} % "
        f"({thrifty.row_title} below {lavish.row_title})."
    )


def _measure(budget: str) -> tuple[str, Callable[[Cell], float]]:
    """The unit of a budget, and how much of it a cell has spent."""
    if budget.endswith("trials"):
        return "trials", lambda cell: cell.trials
    if budget.endswith("gradients"):
        return "gradient evaluations", lambda cell: cell.gradients + 2 * cell.products
    return "seconds", lambda cell: cell.seconds


def _spent_text(cell: Cell) -> str:
    counts = (
        ("gradients", cell.gradients),
        ("Hessian products", cell.products),
        ("trial" if cell.trials == 1 else "trials", cell.trials),
    )
    known = [_time_text(cell.seconds)] if math.isfinite(cell.seconds) else []
    known += [f"{count:,.0f} {unit}" for unit, count in counts if count > 0]
    return ", ".join(known) or "unknown"


def _time_text(seconds: float) -> str:
    """A time in seconds, or from one hour on in hours.

    >>> _time_text(241.2), _time_text(71640)
    ('241 s', '19.9 h')
    """
    return f"{seconds:.0f} s" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _p_text(p_value: float) -> str:
    """A p-value to two digits.

    >>> _p_text(0.3121), _p_text(0.00001)
    ('0.31', '<0.0001')
    """
    return f"{p_value:.2g}" if p_value >= 1e-4 else "<0.0001"


def _by_column(cells: Sequence[Cell], text: Callable[[Cell], str]) -> str:
    """Texts of cells, gathered by column: `MNIST: this, that; SVHN: this`."""
    texts: dict[str, list[str]] = {}
    for cell in cells:
        texts.setdefault(cell.column_title, []).append(text(cell))
    return "; ".join(f"{column}: {', '.join(own)}" for column, own in texts.items())
