"""How forward mode computes hypergradients: what is asked for, and what fits the network."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import micro_batches
from hypergrad.curvature import STRATEGIES
from hypergrad.curvature.autotune import Choice, check_strategy, choose_strategy
from hypergrad.curvature.low_precision import PRECISIONS, check_precision, in_precision
from hypergrad.parallel.ranks import ALONE, Ranks

__all__ = ["ForwardOptions", "check_loss", "choose", "settle"]


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
    """

    clip_products: float | None = None
    truncation: float = 0.0
    strategy: str = "loop"
    precision: str | None = None

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
    ranks: Ranks = ALONE,
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
        ranks: Who carries them; rank 0 decides.
        optimizer: The inner optimiser, where the loss has hyperparameters.
        schedule: Gives their values.

    Returns:
        The same, with another strategy at most.

    Raises:
        ValueError: For a strategy that does not fit, or a precision that cannot be had: see
            `check_strategy` and `check_precision`.
    """
    values = check_loss(model, optimizer, schedule, theta, batch)
    if values and options.precision is not None:
        raise ValueError(
            f"precision={options.precision!r} with hyperparameters of the loss "
            f"({', '.join(values)}): use precision=None"
        )
    check_strategy(model, options.strategy, batch, values)
    check_precision(model, theta, batch, options.strategy, options.precision)
    if options.strategy != "auto":
        return options
    strategy = None
    if ranks.rank == 0:
        choice = choose(model, theta, batch, count, options, ranks, values)
        strategy = choice.strategy
        if choice.skipped:
            warnings.warn(str(choice), stacklevel=2)
    return replace(options, strategy=ranks.broadcast_object(strategy))


def choose(
    model: FlatModel,
    theta: Tensor,
    batch: Batch,
    count: int,
    options: ForwardOptions,
    ranks: Ranks = ALONE,
    values: Mapping[str, Tensor] | None = None,
) -> Choice:
    """Return the fastest strategy for the products that one rank computes.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters.
        batch: A minibatch of the training.
        count: `N`, tangents to carry, on all ranks together.
        options: Say in what precision.
        ranks: Who carries them.
        values: Of the loss's hyperparameters.

    Returns:
        The strategy, and what each that fits takes.
    """
    given = in_precision(model, theta, batch, options.precision)
    return choose_strategy(*given, len(ranks.share(count)), values)


class _Asked(Mapping[str, Tensor]):
    """Values of a loss that note which of them it asks for."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self._values = values
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.names.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def check_loss(
    model: FlatModel,
    optimizer: BoundOptimizer | None,
    schedule: Schedule | None,
    theta: Tensor,
    batch: Batch,
) -> dict[str, Tensor]:
    """Return the first step's values of the loss's hyperparameters, all of which it asks for.

    Args:
        model: The network and its loss.
        optimizer: The inner optimiser.
        schedule: The values.
        theta: `(D,)` parameters.
        batch: A minibatch of the training.

    Raises:
        ValueError: For one that the loss does not ask for, and that is none of the optimiser's:
            a name that is mistyped, say. If autocast is on around the loss.
    """
    device = theta.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        raise ValueError(
            "autocast is on around the derivatives, which would go through it in part: switch it "
            "on inside the loss, where it is differentiated through"
        )
    if optimizer is None or schedule is None or not optimizer.loss_size:
        return {}
    given = optimizer.given(schedule, 0, len(schedule.flat))
    values = optimizer.named(optimizer.step_values(given, theta).loss)
    leaves = {name: value.detach().requires_grad_() for name, value in values.items()}
    asked = _Asked(leaves)
    with torch.random.fork_rng([theta.device] if theta.is_cuda else []), torch.enable_grad():
        loss = model.loss(theta, micro_batches(batch)[0], None, asked)
    unknown = [name for name in values if name not in asked.names]
    if unknown:
        takes = ", ".join(optimizer.rule.defaults)
        raise ValueError(
            f"neither the loss asks for {', '.join(unknown)} nor does {optimizer.rule.name} take "
            f"it: the optimizer takes {takes}"
        )
    found = (
        torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        if loss.requires_grad
        else ()
    )
    for name, derivative in zip(values, found or [None] * len(leaves), strict=True):
        if derivative is None:
            raise ValueError(
                f"the loss takes {name}, but its derivative is lost: compute with the tensor as it "
                "is, without float(), .item() or no_grad()"
            )
    return values
