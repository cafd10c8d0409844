"""Settings of what learned schedules are compared with: by hand, online, by search, in a table."""

import re
from dataclasses import dataclass, field

from hypergrad.config.checks import (
    ConfigError,
    a_budget,
    at_least,
    between,
    not_negative,
    one_of,
    positive,
)

__all__ = ["BaselineConfig", "HypergradientDescentConfig", "SearchConfig", "TableConfig"]

SEARCHES = ("grid", "random", "hd", "ours")


@dataclass
class HypergradientDescentConfig:
    """Hypergradient descent: `enabled` runs it beside another method; `method=hd` always."""

    enabled: bool = True
    hyper_learning_rate: float = 0.2
    clip: float = 1.0

    def __post_init__(self) -> None:
        positive("hd.hyper_learning_rate", self.hyper_learning_rate)
        positive("hd.clip", self.clip)


@dataclass
class BaselineConfig:
    """Plain SGD with a common setting, the other comparison.

    `schedule` is `constant`, `multistep` (decay by `factor` at each of `milestones`, fractions of
    the run) or `cosine` (annealing to zero).
    """

    enabled: bool = True
    schedule: str = "multistep"
    learning_rate: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: list[float] = field(default_factory=lambda: [0.3, 0.6, 0.8])
    factor: float = 0.2

    def __post_init__(self) -> None:
        one_of("baseline.schedule", self.schedule, ("constant", "multistep", "cosine"))
        positive("baseline.learning_rate", self.learning_rate)
        between("baseline.momentum", self.momentum, 0, 1)
        not_negative("baseline.weight_decay", self.weight_decay)
        positive("baseline.factor", self.factor)
        for milestone in self.milestones:
            between("baseline.milestones", milestone, 0, 1)


@dataclass
class SearchConfig:
    """What a search tries: see `hypergrad.search`.

    `kind` is `grid` (all combinations of `grid`, which maps settings of the group `baseline` to
    their values), `random` (schedules of windows, uniform over the ranges), `hd` (hypergradient
    descent, begun anew with each of `outer_learning_rates`), or `ours`, which learns instead.
    """

    kind: str = "grid"
    grid: dict[str, list[float]] = field(default_factory=dict)
    trials: int | None = None
    learning_rate_range: list[float] = field(default_factory=lambda: [-0.1, 1.0])
    momentum_range: list[float] = field(default_factory=lambda: [0.0, 1.2])
    weight_decay_range: list[float] = field(default_factory=lambda: [0.0, 4e-3])
    hyper_learning_rates: list[float] = field(default_factory=lambda: [0.2])
    ensemble: str = "auto"
    executor: str = "local"
    gpus: float = 0.0

    def __post_init__(self) -> None:
        one_of("search.kind", self.kind, SEARCHES)
        one_of("search.executor", self.executor, ("local", "ray"))
        at_least("search.trials", self.trials, 1)
        for key in ("learning_rate_range", "momentum_range", "weight_decay_range"):
            limits = getattr(self, key)
            if len(limits) != 2 or not limits[0] <= limits[1]:
                raise ConfigError(f"search.{key}={limits}: give two numbers, the lower one first")
        if not self.hyper_learning_rates:
            raise ConfigError("search.hyper_learning_rates is empty: give some, such as [0.2]")
        for rate in self.hyper_learning_rates:
            positive("search.hyper_learning_rates", rate)
        if not re.fullmatch(r"auto|[1-9]\d*", self.ensemble):
            raise ConfigError(
                f"search.ensemble={self.ensemble}: use auto, or how many trials train together"
            )
        not_negative("search.gpus", self.gpus)
        for key, values in self.grid.items():
            if key not in ("learning_rate", "momentum", "weight_decay", "factor"):
                raise ConfigError(
                    f"search.grid.{key}: use learning_rate, factor, momentum or weight_decay"
                )
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"search.grid.{key}={values}: give some values, each once")


@dataclass
class TableConfig:
    """Which cells Table 1 has: `rows` are ways to search, `columns` are data sets.

    `budgets` maps a column to a budget of its own; the others have the run's.
    """

    rows: list[str] = field(default_factory=lambda: list(SEARCHES))
    columns: list[str] = field(default_factory=lambda: ["mnist", "svhn", "cifar10"])
    budgets: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("rows", "columns"):
            names = getattr(self, key)
            if not names or len(set(names)) < len(names):
                raise ConfigError(f"table.{key}={names}: name some, each once")
        for name in self.rows:
            one_of("table.rows", name, SEARCHES)
        for column, text in self.budgets.items():
            a_budget(f"table.budgets.{column}", text)
