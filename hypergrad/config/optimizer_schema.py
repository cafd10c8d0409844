"""Settings of the inner optimiser, and of the hyperparameters that are learned."""

from dataclasses import dataclass, field
from typing import Annotated

from hypergrad.config.checks import at_least, at_most, between, matches, one_of, positive

__all__ = ["HyperparameterConfig", "OptimizerConfig"]

WHERE = r"all|matrices|vectors|name:.+"


@dataclass
class OptimizerConfig:
    """Which rule, one of `hypergrad.core.rules.RULES`, and what its function takes."""

    name: str
    options: dict[str, float | bool] = field(default_factory=dict)


@dataclass
class HyperparameterConfig:
    """One hyperparameter, under its name: see `hypergrad.core.hyperparameters.Hyperparameter`.

    `count` coefficients of a `basis`; none: the value stays at the optimizer's default. `warmup` is
    the share of the run that a linear warm-up takes in front, `size` the entries of a vector.
    `where` says for which parameters it is set: all, matrices (two dimensions or more), vectors
    (biases, norms), or name:REGEX, which is searched in their names.
    """

    count: Annotated[int, at_least(0), at_most(10**6)] = 1
    basis: Annotated[str, one_of("windows", "hats", "cosine")] = "windows"
    warmup: Annotated[float, between(0, 1)] = 0.0
    size: Annotated[int, at_least(1), at_most(10**6)] = 1
    start: float = 0.0
    first_move: Annotated[float, positive] = 0.1
    scale: Annotated[str, one_of("linear", "log", "log1m", "logit")] = "linear"
    low: float | None = None
    high: float | None = None
    sets: str | None = None
    where: Annotated[str, matches(WHERE, "use all, matrices, vectors, or name:REGEX")] = "all"
    learned: bool = True
