"""Forward-mode hypergradients: tangents of the weights carried along the whole inner loop.

The equations stand in `recursion`; here they are taken from step to step. Memory does not depend on
the horizon.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer, InnerOptimizer
from hypergrad.core.schedule import Schedule, contributing_steps
from hypergrad.core.training_step import InnerState
from hypergrad.differentiation.active_tangents import active_tangents_at
from hypergrad.differentiation.options import ForwardOptions, settle
from hypergrad.differentiation.recursion import Tangents, advance
from hypergrad.differentiation.result import Hypergradients, validation_gradients

__all__ = ["forward_step", "hypergradients", "project"]


def forward_step(
    model: FlatModel,
    state: InnerState,
    tangents: Tangents,
    batch: Batch,
    optimizer: BoundOptimizer,
    schedule: Schedule,
    step: int,
    horizon: int,
    options: ForwardOptions,
) -> tuple[InnerState, Tangents, Tensor, Tensor]:
    """Take inner step `step` and carry the tangents through it.

    Args:
        model: The network and its loss.
        state: Where it starts; its buffers are updated in place.
        tangents: Of that state.
        batch: The step's minibatch.
        optimizer: The inner optimiser.
        schedule: The values in use.
        step: 0-based inner step.
        horizon: `T`, inner steps.
        options: Clipping, truncation, strategy.

    Returns:
        The next state, the next tangents, the loss (scalar) and the score (summed) on the
        minibatch.
    """
    rows = active_tangents_at(
        optimizer, schedule, step, horizon, options.truncation, tangents.reached
    )
    values = optimizer.step_values(optimizer.given(schedule, step, horizon), state.theta)
    return advance(model, state, tangents, batch, optimizer, values, step, rows, options)


def hypergradients(
    model: FlatModel,
    theta: Tensor,
    batch_at: Callable[[int], Batch],
    validation: Iterable[Batch],
    schedule: Schedule,
    horizon: int,
    options: ForwardOptions = ForwardOptions(),  # noqa: B008 (frozen)
    optimizer: InnerOptimizer = InnerOptimizer(),  # noqa: B008 (frozen)
) -> Hypergradients:
    """Train for `horizon` steps and return the hypergradient of every coefficient of the schedule.

    Args:
        model: The network and its loss.
        theta: `(D,)` initial parameters.
        batch_at: Maps a 0-based inner step to its minibatch.
        validation: Batches of validation data.
        schedule: The values in use.
        horizon: `T`, inner steps.
        options: Clipping of products, truncation, strategy; exact by default.
        optimizer: The inner optimiser; SGD unless given.

    Returns:
        Hypergradients, contributing steps, and the final inner state.

    Raises:
        ValueError: If a hyperparameter has more coefficients than there are steps, the strategy
            does not fit the network, or the schedule not the optimiser.
    """
    bound = optimizer.bind(model, schedule)
    contributing = contributing_steps(schedule.bases, horizon, options.truncation)
    options = settle(model, theta, batch_at(0), len(contributing), options, bound, schedule)
    slots = len(bound.rule.slots)
    state = InnerState.start(theta, slots, model.buffers())
    tangents = Tangents.start(theta, slots, len(contributing))
    for step in range(horizon):
        state, tangents, _, _ = forward_step(
            model, state, tangents, batch_at(step), bound, schedule, step, horizon, options
        )
    return project(model, state, tangents, validation, contributing)


def project(
    model: FlatModel,
    state: InnerState,
    tangents: Tangents,
    validation: Iterable[Batch],
    contributing: tuple[float, ...],
) -> Hypergradients:
    """Return `Z_T g`, each entry divided by its number of contributing steps.

    Args:
        model: The network and its loss.
        state: Where the inner loop ended.
        tangents: Its tangents there.
        validation: Batches of validation data; `g` is the gradient of their mean loss.
        contributing: By what each coefficient's hypergradient is divided.

    Returns:
        The hypergradients, with their spread over the batches.

    Raises:
        ValueError: Without a batch.
    """
    total, count, samples = torch.zeros_like(state.theta), 0, []
    for size, g in validation_gradients(model, state.theta, validation, state.buffers):
        total += size * g
        count += size
        samples.append(tangents.Z @ g)
    if not samples:
        raise ValueError("no validation data: give at least one batch")
    raw = (tangents.Z @ (total / count)).tolist()
    diagnostics = tangents.diagnostics.summary(tangents.Z, torch.stack(samples))
    values = tuple(h / steps for h, steps in zip(raw, contributing, strict=True))
    return Hypergradients(values, contributing, state, diagnostics)
