"""Forward or reverse mode: what a step of each takes, by trying, and what memory."""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.basis import Basis, is_truncated, span
from hypergrad.core.batches import MicroBatches
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer, StepValues
from hypergrad.core.rules import State
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import InnerState, train_step
from hypergrad.curvature import gradient_and_products
from hypergrad.differentiation.active_tangents import active_tangents_at
from hypergrad.differentiation.checkpointing import checkpoint_plan, state_bytes
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.recursion import Tangents, advance
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.differentiation.reverse_step import can_fuse, reverse_step, taken_step

__all__ = [
    "StepSeconds",
    "adjoint_rows",
    "faster_options",
    "live_tangents",
    "median_seconds",
    "step_seconds",
]

ENOUGH, ROUNDS = 1.0, 15  # seconds and repetitions of each kind, whichever comes first
FEW = 8  # values that forward mode is never much slower with
GRID = 1000  # steps that a share of all steps is counted in
MOST = 64  # tangents that are tried: more of them cost in proportion


class StepSeconds(NamedTuple):
    """Seconds of one inner step, medians.

    Attributes:
        train: Of plain training.
        forward: In forward mode, with as many tangents as live on average.
        back: Of the way back in reverse mode.
        there: Of training as reverse mode does it, the gradient taken as on the way back.
    """

    train: float
    forward: float
    back: float
    there: float

    def reverse(self, retaken: float = 0.0, kept: float = 0.0) -> float:
        """Return a step there and back.

        Args:
            retaken: Share of the steps that are taken again.
            kept: Share of the steps whose graph is kept: their gradient is not taken again.
        """
        return (1 + retaken) * self.there + max(self.back - kept * self.there, 0.0)


def step_seconds(
    model: FlatModel,
    theta: Tensor,
    batch: Batch,
    optimizer: BoundOptimizer,
    schedule: Schedule,
    horizon: int,
    *,
    truncation: float = 0.0,
    strategy: str = "loop",
    chunks: int = 1,
) -> StepSeconds:
    """Return what a step takes, from a few of each kind.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters.
        batch: A minibatch of the training.
        optimizer: The inner optimiser.
        schedule: The values.
        horizon: `T`, inner steps.
        truncation: `tau` in [0, 1).
        strategy: How Hessian products of forward mode are computed; `auto` counts as `loop`.
        chunks: Into how many the validation data of reverse mode is divided.
    """
    values = optimizer.step_values(optimizer.given(schedule, 0, horizon), theta)
    named = optimizer.named(values.loss)
    state = InnerState.start(theta, len(optimizer.rule.slots), model.buffers())
    one = batch[0] if isinstance(batch, MicroBatches) else batch
    times = len(batch) if isinstance(batch, MicroBatches) else 1
    train = median_seconds(lambda: train_step(model, state.copied(), batch, optimizer, values, 0))
    products = "loop" if strategy == "auto" else strategy
    count = sum(len(own) for own in schedule.values())
    live = live_tangents(schedule.bases, horizon, truncation)
    if count <= MOST:
        options = ForwardOptions(strategy=products, self_test=False)
        tangents = Tangents.start(theta, len(state.slots), count)
        tangents = tangents._replace(Z=torch.randn_like(tangents.Z))
        middle = horizon // 2  # where as many windows have begun as on average
        reached = (True,) * count
        active = active_tangents_at(optimizer, schedule, middle, horizon, 0.0, reached)
        active = active._replace(live=active.moving)
        given = batch, optimizer, values, 0, active, options
        forward = median_seconds(lambda: advance(model, state.copied(), tangents, *given))
        forward = train + (1 - truncation) * (forward - train)
    else:
        Z = torch.randn(MOST, len(theta)).to(theta)
        loss = partial(model.loss, batch=one, buffers=state.buffers, values=named)
        many = times * median_seconds(lambda: gradient_and_products(loss, theta, Z, products))
        forward = train + (many - train) * live / MOST
    whole = 1 - truncation  # share of the steps that anything is learned at
    rows = adjoint_rows(schedule.bases, truncation) - whole
    same = model, state, batch, optimizer, values
    back = one_row = _back(chunks, *same)
    if rows:
        back = whole * one_row + rows * (_back(2 * chunks, *same) - one_row)
    fused = can_fuse(model, theta, batch, named)
    there = median_seconds(lambda: taken_step(*same, 0, fused=fused))
    return StepSeconds(train, max(forward, train), back, there)


def faster_options(
    model: FlatModel,
    theta: Tensor,
    batch: Batch,
    optimizer: BoundOptimizer,
    schedule: Schedule,
    horizon: int,
) -> ForwardOptions | ReverseOptions:
    """Return reverse mode where it is possible and takes less than half of forward mode's time.

    Closer than that, forward mode tells more of how far to trust what it finds.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters.
        batch: A minibatch of the training.
        optimizer: The inner optimiser.
        schedule: The values.
        horizon: `T`, inner steps.
    """
    reverse = ReverseOptions()
    values = optimizer.named(
        optimizer.step_values(optimizer.given(schedule, 0, horizon), theta).loss
    )
    if len(schedule.flat) < FEW or model.random_source(batch, values):
        return ForwardOptions()
    state = InnerState.start(theta, len(optimizer.rule.slots), model.buffers())
    try:
        plan = checkpoint_plan(horizon, state_bytes(state), reverse.memory_gb)
    except ValueError:
        return ForwardOptions()
    found = step_seconds(model, theta, batch, optimizer, schedule, horizon)
    faster = found.reverse(plan.retaken / horizon) < found.forward / 2
    return reverse if faster else ForwardOptions()


def _back(
    rows: int,
    model: FlatModel,
    state: InnerState,
    batch: Batch,
    optimizer: BoundOptimizer,
    values: StepValues,
) -> float:
    P = torch.randn(rows, len(state.theta)).to(state.theta)
    adjoints = State(P, tuple(torch.randn_like(P) for _ in state.slots))
    given = model, state, batch, optimizer, values, 0, adjoints
    return median_seconds(lambda: reverse_step(*given))


def live_tangents(bases: Mapping[str, Basis], horizon: int, truncation: float = 0.0) -> float:
    """Return how many tangents need a Hessian product at a step, on average over a run.

    Args:
        bases: Of all that is learned, by name.
        horizon: `T`, inner steps.
        truncation: `tau` in [0, 1).
    """
    total = 0.0
    for basis in bases.values():
        if basis.count == horizon:  # a value a step
            total += basis.size * (horizon + 1) / 2
            continue
        starts = [span(basis, function, horizon).start for function in range(basis.count)]
        total += basis.size * sum(horizon - start for start in starts) / horizon
    return (1 - truncation) * total


def adjoint_rows(bases: Mapping[str, Basis], truncation: float = 0.0) -> float:
    """Return how many adjoints go back through a step, on average: see `way_back`.

    Args:
        bases: Of all that is learned, by name.
        truncation: `tau` in [0, 1).
    """
    if not truncation:
        return 1.0
    groups, total = [list({basis: None for basis in bases.values()})], 0
    for step in reversed(range(GRID)):
        parts: list[list[Basis]] = []
        for group in groups:
            frozen = [each for each in group if is_truncated(each, step, GRID, truncation)]
            free = [each for each in group if each not in frozen]
            parts += [part for part in (frozen, free) if part]
            total += bool(free)
        groups = parts
    return total / GRID


def median_seconds(work: Callable[[], object]) -> float:
    """Return what some work takes, after a first time that warms up."""
    work()
    seconds: list[float] = []
    while len(seconds) < ROUNDS and (len(seconds) < 2 or sum(seconds) < ENOUGH):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
