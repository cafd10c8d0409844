"""How forward mode computes hypergradients: what is asked for, and what fits the network."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer
from hypergrad.core.schedule import Schedule
from hypergrad.curvature import STRATEGIES
from hypergrad.curvature.autotune import Choice, check_strategy, choose_strategy
from hypergrad.curvature.low_precision import PRECISIONS, check_precision, in_precision
from hypergrad.differentiation.loss_check import check_loss
from hypergrad.differentiation.self_test import self_test

__all__ = ["ForwardOptions", "choose", "settle"]


@dataclass(frozen=True, kw_only=True)
class ForwardOptions:
    """How hypergradients are computed; the defaults are exact.

    Attributes:
        clip_products: `c_HZ`, elementwise limit on the Hessian products, or None.
        truncation: `tau` in [0, 1): the first `floor(tau n)` of a window's `n` steps leave the
            tangents of its kind untouched and do not count in the average.
        strategy: How Hessian products are computed: see `curvature`. `auto` takes the fastest of
            those that fit the network, by a short trial; all are exact, but the last bits differ.
        precision: `tf32` (CUDA) or `bfloat16`: Hessian products, and nothing else, in that
            precision. None is that of the parameters.
        self_test: Whether each problem is tested before its first step, see `self_test`.
    """

    clip_products: float | None = None
    truncation: float = 0.0
    strategy: str = "loop"
    precision: str | None = None
    self_test: bool = True

    def __post_init__(self) -> None:
        limit = self.clip_products
        if limit is not None and not limit > 0:
            raise ValueError(f"clip_products={limit} must be above zero; None switches it off")
        if not 0 <= self.truncation < 1:
            raise ValueError(f"truncation={self.truncation} must be in [0, 1); 0 is exact")
        known = ("auto", *STRATEGIES)
        if self.strategy not in known:
            raise ValueError(f"unknown strategy {self.strategy!r}: use one of {known}")
        if self.precision not in (None, *PRECISIONS):
            raise ValueError(
                f"unknown precision {self.precision!r}: use one of {PRECISIONS}, or None"
            )


def settle(
    model: FlatModel,
    theta: Tensor,
    batch: Batch,
    count: int,
    options: ForwardOptions,
    optimizer: BoundOptimizer | None = None,
    schedule: Schedule | None = None,
) -> ForwardOptions:
    """Return options whose strategy fits the network: `auto` is replaced by the fastest.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters.
        batch: A minibatch of the training.
        count: `N`, tangents to carry.
        options: What is asked for.
        optimizer: The inner optimiser, where the loss has hyperparameters.
        schedule: Gives their values.

    Returns:
        The same, with another strategy at most.

    Raises:
        ValueError: For a strategy that does not fit, or a precision that cannot be had: see
            `check_strategy` and `check_precision`; for whatever `self_test` refuses.
    """
    values = check_loss(model, optimizer, schedule, theta, batch)
    if values and options.precision is not None:
        raise ValueError(
            f"precision={options.precision!r} with hyperparameters of the loss "
            f"({', '.join(values)}): use precision=None"
        )
    check_strategy(model, options.strategy, batch, values)
    check_precision(model, theta, batch, options.strategy, options.precision)
    if options.strategy == "auto":
        choice = choose(model, theta, batch, count, options, values)
        if choice.skipped:
            warnings.warn(str(choice), stacklevel=2)
        options = replace(options, strategy=choice.strategy)
    if options.self_test and optimizer is not None and schedule is not None:
        self_test(model, theta, batch, optimizer, schedule, options.strategy)
    return options


def choose(
    model: FlatModel,
    theta: Tensor,
    batch: Batch,
    count: int,
    options: ForwardOptions,
    values: Mapping[str, Tensor] | None = None,
) -> Choice:
    """Return the fastest strategy for the products of a step.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters.
        batch: A minibatch of the training.
        count: `N`, tangents to carry.
        options: Say in what precision.
        values: Of the loss's hyperparameters.

    Returns:
        The strategy, and what each that fits takes.
    """
    given = in_precision(model, theta, batch, options.precision)
    return choose_strategy(*given, count, values)
