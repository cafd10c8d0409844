"""The members of Table 1, a run or more for each of its cells: what they are configured with."""

from collections.abc import Sequence
from itertools import product

from hypergrad.config.checks import ConfigError
from hypergrad.config.schema import RunConfig

__all__ = ["table_members"]

# Said by the table for all of its cells, not by each of them.
_OF_THE_TABLE = (
    *("table.", "repeats", "seed", "budget", "jobs=", "executor=", "gpus=", "outputs"),
    "test_curves",
)
# With a budget, nothing else ends a search.
_UNTIL_SPENT = {
    "random": ("search.trials=null",),
    "hd": ("search.trials=null",),
    "ours": ("outer.steps=1000",),
    "grid": (),
}


def table_members(config: RunConfig, overrides: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """Return the members of a table, row by row.

    A grid is one member with all seeds, because it chooses by their mean; of the other rows each
    seed is a member, so that members are of a size and can be run side by side.

    Args:
        config: The table's configuration.
        overrides: What was typed for it; what is not the table's own goes on to the members.

    Returns:
        Name, experiment and overrides of each.

    Raises:
        ConfigError: For an unknown column, or an override that a table cell cannot have.
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
    # Grids first: they are the members that take longest, side by side with the others.
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
            members.append((f"{column}_grid", experiment, [*common, *seeds]))
            continue
        if budget is not None:
            common.append(f"budget={budget}")
        for seed in config.seeds:
            one = [*common, f"seed={seed}", "repeats=1"]
            members.append((f"{column}_{row}_seed{seed}", experiment, one))
    return members
