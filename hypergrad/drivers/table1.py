"""The cells of Table 1 as parts of a run: what each of them is configured with."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from hypergrad.config import composition as configs
from hypergrad.config.checks import ConfigError
from hypergrad.config.schema import RunConfig

__all__ = ["Member", "cells_of"]

# Said by the table for all of its cells, not by each of them.
_OF_THE_TABLE = ("table.", "repeats", "seed", "budget", "jobs", "outputs", "test_curves")
# With a budget, nothing else ends a search.
_UNTIL_SPENT = {
    "random": ("search.trials=null",),
    "hd": ("search.trials=null",),
    "ours": ("outer.steps=1000",),
    "grid": (),
}


class Member(NamedTuple):
    """One part of a run, before it has a directory.

    Attributes:
        name: Of its directory, such as `mnist_shared`.
        config: Its configuration.
        text: The same as YAML.
        overrides: What would have to be typed for it.
    """

    name: str
    config: RunConfig
    text: str
    overrides: list[str]


def cells_of(config: RunConfig, overrides: Sequence[str]) -> list[Member]:
    """Return the cells of a table, row by row.

    A grid is one part with all seeds, because it chooses by their mean; of the other rows each seed
    is a part, so that parts are of a size and can be run side by side.

    Args:
        config: The table's configuration.
        overrides: What was typed for it; what is not the table's own goes on to the cells.

    Returns:
        The cells, or their seeds.

    Raises:
        ConfigError: For an unknown column, or a setting that a cell cannot have.
    """
    known = sorted(config.table.experiments)
    for column in config.table.columns:
        if column not in known:
            raise ConfigError(f"table.columns: no {column}; use some of {', '.join(known)}")
    for column in config.table.budgets:
        if column not in known:
            raise ConfigError(f"table.budgets: no {column}; use some of {', '.join(known)}")
    for text in overrides:
        if text.startswith("data=") and len(config.table.columns) > 1:
            raise ConfigError(f"{text}: name one column for it, as in table.columns=[cifar10]")
        if text.startswith("search="):
            raise ConfigError(f"{text}: choose rows, as in table.rows=[ours,random]")
    own = [text for text in overrides if not text.startswith(_OF_THE_TABLE)]
    # Grids first: they are the parts that take longest, side by side with the others.
    typed = any(text.startswith("budget=") for text in overrides)  # wins over a column's own
    budgets = {} if typed else config.table.budgets
    rows = sorted(config.table.rows, key=lambda row: row != "grid")
    members = []
    for row, column in product(rows, config.table.columns):
        experiment, budget = config.table.experiments[column], budgets.get(column, config.budget)
        until_spent = () if budget is None else _UNTIL_SPENT[row]
        common = [*until_spent, *own, f"search={row}", "test_curves=false"]
        if row == "grid":
            seeds = [f"seed={config.seed}", f"repeats={config.repeats}"]
            members.append(_member(f"{column}_grid", experiment, [*common, *seeds]))
            continue
        if budget is not None:
            common.append(f"budget={budget}")
        for seed in config.seeds:
            one = [*common, f"seed={seed}", "repeats=1"]
            members.append(_member(f"{column}_{row}_seed{seed}", experiment, one))
    return members


def _member(name: str, experiment: str, overrides: list[str]) -> Member:
    return Member(name, *configs.compose(experiment, overrides), overrides)
