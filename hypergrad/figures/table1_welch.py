"""Which cell of a column is best, and whether the others differ from it by more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.stats import ttest_ind_from_stats

from hypergrad.figures.table1_cell import Cell

LEVEL = 0.05  # a difference with a larger p-value is called not significant


def against_best(cells: Sequence[Cell]) -> list[Cell]:
    """Mark the best mean of each column, and test the other rows against it.

    Args:
        cells: any number of columns, in any order.

    Returns:
        The same cells with `best` and `p_value` set.
    """
    best: dict[str, Cell] = {}
    for cell in cells:
        if cell.n and (cell.column not in best or cell.mean > best[cell.column].mean):
            best[cell.column] = cell
    marked = []
    for cell in cells:
        rival = best.get(cell.column)
        if rival is not None and cell.n:
            is_best = cell.mean == rival.mean
            p_value = math.nan if is_best else welch(rival, cell)
            cell = cell._replace(best=is_best, p_value=p_value)
        marked.append(cell)
    return marked


def welch(one: Cell, other: Cell) -> float:
    """The p-value of Welch's t-test: two means, each with its own variance, two-sided.

    Returns:
        NaN where either has fewer than two seeds, or neither has any variance.
    """
    if min(one.n, other.n) < 2 or one.std == other.std == 0:
        return math.nan
    test = ttest_ind_from_stats(
        one.mean, one.std, one.n, other.mean, other.std, other.n, equal_var=False
    )
    return float(test.pvalue)
