"""Hypergradient descent (HD): one value a hyperparameter, moved online, from one step ahead.

After inner step `t`, with everything before the step taken as a constant and the validation
gradient of a minibatch at `theta_t`,

    d_value = g_val . (d theta_t / d value_t)

clipped, then one step of SGD on the value itself (Appendix B, Figure 1).
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer
from hypergrad.core.rules import State
from hypergrad.core.training_step import InnerState, training_gradient
from hypergrad.curvature import gradient

__all__ = ["HypergradientDescentStep", "hypergradient_descent_step"]


class HypergradientDescentStep(NamedTuple):
    """Outcome of one inner step of hypergradient descent.

    Attributes:
        state: Inner state after the step.
        values: For the next step, by name.
        hypergradients: One step ahead, before clipping, by name.
        loss: Training loss of the minibatch, a scalar.
        score: Summed score on the minibatch, a scalar.
    """

    state: InnerState
    values: dict[str, float]
    hypergradients: dict[str, float]
    loss: Tensor
    score: Tensor


def hypergradient_descent_step(
    model: FlatModel,
    state: InnerState,
    values: Mapping[str, float],
    step: int,
    batch: Batch,
    validation_batch: Batch,
    optimizer: BoundOptimizer,
    *,
    learning_rate: float,
    clip: float,
    learned: Mapping[str, bool],
) -> HypergradientDescentStep:
    """Take one inner step, then one outer step on the values.

    Args:
        model: The network and its loss.
        state: Where it starts; its buffers are updated in place.
        values: Of this step, by name: one a hyperparameter of the rule.
        step: 0-based.
        batch: Training minibatch.
        validation_batch: Validation minibatch.
        optimizer: The inner optimiser.
        learning_rate: Of the outer SGD.
        clip: Elementwise limit on the hypergradients.
        learned: Which of them move; the others stay.

    Returns:
        The state and the values after the step.
    """
    used = optimizer.step_values(values, state.theta)
    g, loss, score = training_gradient(model, state, batch, optimizer.named(used.loss))
    g = optimizer.transform(g)
    after = State(*optimizer.rule.update(g, *state.optimized, used.rule, step))
    taken = InnerState(after.theta, after.slots, state.buffers)
    g_val = gradient(
        lambda theta: model.validation_loss(theta, validation_batch, taken.buffers), after.theta
    )
    names = list(values)
    targets = [optimizer.by_name[name].target for name in names]
    raw = optimizer.rule.ahead(g_val, state.optimized, g, after, used.rule, step, targets)
    # Read in one go: the device waits once.
    found, moves = torch.stack([raw, raw.clamp(-clip, clip)]).tolist()
    moved = {
        name: values[name] - learning_rate * (d if learned[name] else 0.0)
        for name, d in zip(names, moves, strict=True)
    }
    return HypergradientDescentStep(taken, moved, dict(zip(names, found, strict=True)), loss, score)
