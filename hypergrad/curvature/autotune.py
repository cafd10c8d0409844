"""Which way to compute Hessian products suits a network: what it refuses, and what is fastest."""

import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.batches import first_examples
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.limits import known_limit
from hypergrad.core.training_step import micro_batches
from hypergrad.curvature import (
    LayoutError,
    check_layout,
    check_stackable,
    gradient_and_products,
)
from hypergrad.curvature.agreement import PRODUCTS, relative_error

__all__ = ["Choice", "check_strategy", "choose_strategy"]

# Where times are within the margin the earlier one wins, so that noise seldom decides.
PREFERENCE = ("stacked", "fused", "vmap", "loop")
MARGIN = 1.15
ROUNDS = 3
HOPELESS = 3.0  # times the best: not worth another call
# Strategies that batch the columns hold the activations of all of them. Networks beyond this many
# bytes leave the caches, where batching gains nothing, and might leave the memory.
BATCHED, BATCHED_LIMIT = ("stacked", "vmap"), 2**30


class Choice(NamedTuple):
    """A strategy, and why.

    Attributes:
        strategy: One of `curvature.STRATEGIES`.
        seconds: For each that fits the network, the shortest time of a gradient with its products.
        skipped: For each that would fit but for a limit of PyTorch or the machine (no batching
            rule, too little memory), or gives other numbers, why: a line.
    """

    strategy: str
    seconds: dict[str, float]
    skipped: dict[str, str]

    def __str__(self) -> str:
        times = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in self.seconds.items())
        skipped = "".join(f"; {name} skipped: {why}" for name, why in self.skipped.items())
        return f"Hessian products by {self.strategy} ({times}){skipped}"


def check_strategy(
    model: FlatModel, strategy: str, batch: Batch, values: Mapping[str, Tensor] | None = None
) -> None:
    """Refuse a network whose Hessian products a strategy cannot compute, or would get wrong.

    Args:
        model: The network and its loss.
        strategy: As in `ForwardOptions`.
        batch: A minibatch, of which two examples are tried.
        values: Of the loss's hyperparameters.

    Raises:
        ValueError: For random numbers with `vmap`, which would draw others than the gradient did;
            for anything but a chain of known layers with `stacked`.
    """
    if strategy == "vmap" and (source := model.random_source(batch, values or {})):
        raise ValueError(
            f"{source} draws random numbers, and strategy vmap would draw others for the Hessian "
            "products than for the gradient: use strategy='loop'"
        )
    if strategy not in ("stacked", "fused"):
        return
    two, buffers = first_examples(micro_batches(batch)[0], 2), model.buffers()
    # As in training: the loss is differentiated by its values too.
    given = {name: value.detach().requires_grad_() for name, value in (values or {}).items()}

    def loss(theta: Tensor) -> Tensor:
        return model.tracked_loss(theta, two, buffers, given)[0]

    theta = model.theta()
    # A run must draw the same random numbers whether this was tried or not.
    with torch.random.fork_rng([theta.device] if theta.is_cuda else []):
        if strategy == "stacked":
            check_stackable(loss, theta)
        else:
            check_layout(loss, theta)


def choose_strategy(
    model: FlatModel,
    theta: Tensor,
    batch: Batch,
    count: int,
    values: Mapping[str, Tensor] | None = None,
) -> Choice:
    """Time all strategies that fit a network on one batch, and return the fastest.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters.
        batch: A minibatch, as large as in training.
        count: `N`, tangents to carry.
        values: Of the loss's hyperparameters.

    Returns:
        The fastest; of those within a margin of it, the first in a fixed order.

    Raises:
        RuntimeError: For whatever the network raises that is not a known limit of a strategy.
    """
    given, buffers = values or {}, model.buffers()
    batch = micro_batches(batch)[0]
    # At random: constant directions lie where many losses are flat.
    drawn = torch.randn(count, len(theta), generator=torch.Generator().manual_seed(0))
    Z = drawn.to(theta)

    def training_loss(point: Tensor) -> Tensor:
        return model.tracked_loss(point, batch, buffers, given)[0]

    def fits(strategy: str) -> bool:
        if strategy in BATCHED and large:
            return False
        try:
            check_strategy(model, strategy, batch, given)
        except ValueError:
            return False
        return True

    def products(strategy: str) -> Tensor:
        torch.manual_seed(0)
        return gradient_and_products(
            lambda point: model.loss(point, batch, buffers, given),
            theta,
            Z,
            strategy,
            training_loss,
        )[1]

    # Dropout draws from the global generator, and a run must not depend on how long this took.
    with torch.random.fork_rng([theta.device] if theta.is_cuda else []):
        large = count * _activations(training_loss, theta) > BATCHED_LIMIT
        seconds: dict[str, float] = {}
        first_rows: dict[str, Tensor] = {}
        skipped: dict[str, str] = {}
        for strategy in (name for name in PREFERENCE if fits(name)):
            try:
                # What is set up on a first call does not count.
                first_rows[strategy] = products(strategy)[:1].clone()
            except (RuntimeError, LayoutError) as error:
                reason = str(error) if isinstance(error, ValueError) else known_limit(error)
                if strategy == "loop" or reason is None:
                    raise
                skipped[strategy] = reason
                continue
            seconds[strategy] = _seconds(lambda name=strategy: products(name), theta.device)
        for strategy in list(seconds):  # time must not decide between different numbers
            error = relative_error(first_rows[strategy], first_rows["loop"])
            if error > PRODUCTS.get(theta.dtype, math.inf):
                del seconds[strategy]
                skipped[strategy] = f"off by {error:.2g} from the products by loop"
        for _ in range(ROUNDS - 1):
            best = min(seconds.values())
            for strategy, before in seconds.items():
                if before < HOPELESS * best:
                    again = _seconds(lambda name=strategy: products(name), theta.device)
                    seconds[strategy] = min(before, again)
    limit = MARGIN * min(seconds.values())
    fastest = next(name for name, took in seconds.items() if took <= limit)
    return Choice(fastest, seconds, skipped)


def _activations(loss: Callable[[Tensor], Tensor], theta: Tensor) -> int:
    """Bytes that autograd keeps between the forward and the backward pass."""
    sizes = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss(theta.detach().requires_grad_())
    return sum(sizes)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Wall time of a call and of all that it has queued on the device."""
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
