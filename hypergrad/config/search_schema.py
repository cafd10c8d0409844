"""Settings of what learned schedules are compared with: by hand, online, by search, in a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, get_type_hints

from hypergrad.config.checks import (
    a_budget,
    at_least,
    at_most,
    between,
    check,
    distinct,
    matches,
    not_negative,
    one_of,
    positive,
)

__all__ = ["BaselineConfig", "HypergradientDescentConfig", "SearchConfig", "TableConfig"]

Positive = Annotated[float, positive]
NotNegative = Annotated[float, not_negative]
Momentum = Annotated[float, between(0, 1)]
Search = Annotated[str, one_of("grid", "random", "random_space", "hd", "tpe", "hyperband", "ours")]
Row = Annotated[str, one_of("grid", "random", "hd", "ours")]  # of Table 1


def _a_range(limits: Sequence[float]) -> str | None:
    ordered = len(limits) == 2 and limits[0] <= limits[1]
    return None if ordered else "give two numbers, the lower one first"


Range = Annotated[list[float], _a_range]


@dataclass
class HypergradientDescentConfig:
    """Hypergradient descent: `enabled` runs it beside another method; `method=hd` always."""

    enabled: bool
    hyper_learning_rate: Positive
    clip: Positive


@dataclass
class BaselineConfig:
    """Plain SGD with a common setting, the other comparison.

    `schedule` is `constant`, `multistep` (decay by `factor` at each of `milestones`, fractions of
    the run) or `cosine` (annealing to zero).
    """

    enabled: bool
    schedule: Annotated[str, one_of("constant", "multistep", "cosine")]
    learning_rate: Positive
    momentum: Momentum
    weight_decay: NotNegative
    milestones: list[Annotated[float, between(0, 1)]]
    factor: Positive


def _some_values(values: Sequence[float]) -> str | None:
    fine = values and len(set(values)) == len(values)
    return None if fine else "give some values, each once"


def _a_grid(grid: dict[str, list[float]]) -> str | None:
    rules = get_type_hints(BaselineConfig, include_extras=True)
    for key, values in grid.items():
        if key not in ("learning_rate", "factor", "momentum", "weight_decay"):
            return f"no {key}; use learning_rate, factor, momentum or weight_decay"
        check(values, Annotated[list[rules[key]], _some_values], f"search.grid.{key}")
    return None


def _a_space(space: dict[str, list[float]]) -> str | None:
    names = "learning_rate", "momentum", "weight_decay"
    if set(space) != set(names):
        return f"give {', '.join(names)}, each two numbers"
    for key, limits in space.items():
        if problem := _a_range(limits):
            return f"{key}: {problem}"
        low, high = limits
        if key == "momentum" and not 0 <= low <= high < 1:
            return "momentum: give bounds from 0 to below 1"
        if key != "momentum" and not 0 < low <= high < math.inf:
            return f"{key}: give bounds above 0: they are searched on a logarithmic scale"
    return None


@dataclass
class SearchConfig:
    """What a search tries: see `hypergrad.drivers.search`.

    `kind` is `grid` (all combinations of `grid`, which maps settings of the group `baseline` to
    their values), `random` (schedules of windows, uniform over the ranges), `hd` (hypergradient
    descent, begun anew with each of `hyper_learning_rates`), `tpe`, `hyperband` or `random_space`
    (the schedule of the group `baseline` with numbers of `space`; Hyperband trains from
    `min_epochs` on and passes on one setting in `reduction`), or `ours`, which learns instead.
    `driver` is what the run's `driver` is when its experiment says nothing.
    """

    kind: Search
    driver: Annotated[str, one_of("learn", "search")]
    grid: Annotated[dict[str, list[float]], _a_grid]
    trials: Annotated[int, at_least(1), at_most(10**6)] | None
    learning_rate_range: Range
    momentum_range: Range
    weight_decay_range: Range
    hyper_learning_rates: Annotated[list[Positive], distinct]
    space: Annotated[dict[str, list[float]], _a_space]
    reduction: Annotated[int, at_least(2), at_most(10**6)]
    min_epochs: Annotated[int, at_least(1), at_most(10**9)]
    ensemble: Annotated[
        str, matches(r"auto|[1-9]\d*", "use auto, or how many trials train together")
    ]


@dataclass
class TableConfig:
    """Which cells Table 1 has: `rows` are ways to search, `columns` are data sets.

    `experiments` names the experiment whose searches fill a column, and `budgets` maps a column to
    a budget of its own; the others have the run's.
    """

    rows: Annotated[list[Row], distinct]
    columns: Annotated[list[str], distinct]
    experiments: dict[str, str]
    budgets: dict[str, Annotated[str, a_budget]]
