"""The inner optimiser that a configuration stands for."""

import math
import re
from collections.abc import Callable

from torch import nn

from hypergrad.config.checks import ConfigError
from hypergrad.config.optimizer_schema import HyperparameterConfig
from hypergrad.config.schema import RunConfig
from hypergrad.core.basis import Basis, Cosine, Hats, Vector, WarmUp, Windows
from hypergrad.core.gradient_transforms import (
    ElementwiseClip,
    GradientTransform,
    NoClip,
    NormClip,
)
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules import rule_named

__all__ = [
    "columns_at",
    "inner_optimizer",
    "learned_at",
    "learned_of_rule",
    "logged_names",
    "names_of_loss",
]

BASES = {"windows": Windows, "hats": Hats, "cosine": Cosine}


def inner_optimizer(config: RunConfig) -> InnerOptimizer:
    """Return the optimiser of a run, with its declarations; what has no coefficients is left out.

    Raises:
        ConfigError: For an unknown rule, or hyperparameters that are at odds with themselves.
    """
    try:
        rule = rule_named(config.optimizer.name, config.optimizer.options)
        declared = tuple(
            _declared(name, each) for name, each in config.hyperparameters.items() if each.count
        )
        return InnerOptimizer(rule, declared, _transform(config))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def learned_at(config: RunConfig, horizon: int) -> list[Hyperparameter]:
    """Return what an inner run of `horizon` steps learns: of unshared values, one a step."""
    per_step = config.method.name == "unshared"
    return inner_optimizer(config).learned(horizon if per_step else None)


def columns_at(config: RunConfig, horizon: int) -> list[int]:
    """Return how many coefficients each learned hyperparameter has."""
    return [each.over.count * each.over.size for each in learned_at(config, horizon)]


def learned_of_rule(config: RunConfig) -> dict[str, bool]:
    """Return which values of the rule move: those that have coefficients."""
    defaults = inner_optimizer(config).rule.defaults
    given = config.hyperparameters
    return {name: given[name].count > 0 for name in given if name in defaults}


def names_of_loss(config: RunConfig) -> list[str]:
    """Return the values that the loss is asked to take."""
    optimizer = inner_optimizer(config)
    targets = [each.target for each in optimizer.hyperparameters]
    return [target for target in targets if target not in optimizer.rule.defaults]


def logged_names(config: RunConfig) -> list[str]:
    """Return the hyperparameters whose values a run writes down at every row.

    What has no coefficients is at the rule's default, unless others set the same for groups.
    """
    declared, defaults = config.hyperparameters, inner_optimizer(config).rule.defaults
    set_by_others = {each.sets for each in declared.values() if each.sets and each.count}

    def known(name: str) -> bool:
        return name not in set_by_others and not math.isnan(defaults.get(name, math.nan))

    return [name for name, each in declared.items() if each.count or known(name)]


def _declared(name: str, given: HyperparameterConfig) -> Hyperparameter:
    basis: Basis = BASES[given.basis](given.count)
    if given.warmup:
        basis = WarmUp(given.warmup, basis)
    if given.size > 1:
        basis = Vector(given.size, basis)
    return Hyperparameter(
        name,
        basis,
        given.start,
        given.first_move,
        given.scale,
        given.low,
        given.high,
        given.sets or "",
        _where(given.where),
        given.learned,
    )


def _where(text: str) -> Callable[[str, nn.Parameter], bool] | None:
    if text == "all":
        return None
    if text == "matrices":
        return lambda name, parameter: parameter.dim() > 1
    if text == "vectors":
        return lambda name, parameter: parameter.dim() <= 1
    pattern = re.compile(text.removeprefix("name:"))
    return lambda name, parameter: pattern.search(name) is not None


def _transform(config: RunConfig) -> GradientTransform:
    method = config.method
    if method.clip_gradient is not None:
        return ElementwiseClip(method.clip_gradient)
    return NoClip() if method.clip_norm is None else NormClip(method.clip_norm)
