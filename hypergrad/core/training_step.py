"""One inner step: gradient, transformation, update."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.batches import MicroBatches, example_count
from hypergrad.core.double_precision import widened
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer, StepValues
from hypergrad.core.rules import State

__all__ = [
    "Gradient",
    "InnerState",
    "add_scores",
    "mean_gradient",
    "micro_batches",
    "train_step",
    "training_gradient",
]


class InnerState(NamedTuple):
    """What the inner loop carries from one step to the next.

    Attributes:
        theta: `(D,)` parameters.
        slots: What the optimiser keeps beside them, `(D,)` each.
        buffers: The model's buffers (running statistics), by name.
    """

    theta: Tensor
    slots: tuple[Tensor, ...]
    buffers: dict[str, Tensor]

    @classmethod
    def start(cls, theta: Tensor, slots: int, buffers: dict[str, Tensor]) -> "InnerState":
        """Return the state before the first step: so many slots of zeros, buffers copied."""
        zeros = tuple(torch.zeros_like(theta) for _ in range(slots))
        return cls(theta.clone(), zeros, buffers).copied()

    @property
    def optimized(self) -> State:
        """What the optimiser changes."""
        return State(self.theta, self.slots)

    def tensors(self) -> list[Tensor]:
        """Return all of it, in a fixed order."""
        return [self.theta, *self.slots, *self.buffers.values()]

    def copied(self) -> "InnerState":
        """Return this state with buffers of its own: a step makes new weights, but updates them."""
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return InnerState(self.theta, self.slots, buffers)


class Gradient(NamedTuple):
    """The gradient of a minibatch, before any transformation.

    Attributes:
        g: `(D,)`.
        loss: Scalar, mean over the minibatch.
        score: Scalar, the metric's sum over its examples.
    """

    g: Tensor
    loss: Tensor
    score: Tensor


def micro_batches(batch: Batch) -> Sequence[Batch]:
    """Return the batches whose gradients a step averages: one, unless they are accumulated."""
    return batch if isinstance(batch, MicroBatches) else (batch,)


def training_gradient(
    model: FlatModel, state: InnerState, batch: Batch, values: dict[str, Tensor]
) -> Gradient:
    """Return the gradient of the training loss.

    Args:
        model: The network and its loss.
        state: Where; its buffers are updated in place.
        batch: The step's minibatch.
        values: Of the loss's hyperparameters.
    """
    point = state.theta.detach().requires_grad_()
    found = []
    for micro in micro_batches(batch):
        loss, score = model.tracked_loss(point, micro, state.buffers, values)
        found.append(Gradient(torch.autograd.grad(loss, point)[0], loss.detach(), score.detach()))
    return mean_gradient(found)


def mean_gradient(found: Sequence[Gradient]) -> Gradient:
    """Return the mean of micro-batches' gradients and losses, and the sum of their scores."""
    if len(found) == 1:
        return found[0]
    g, loss, score = (torch.stack(list(each)) for each in zip(*found, strict=True))
    return Gradient(g.mean(dim=0), loss.mean(dim=0), score.sum(dim=0))


def train_step(
    model: FlatModel,
    state: InnerState,
    batch: Batch,
    optimizer: BoundOptimizer,
    values: StepValues,
    step: int | Tensor,
) -> tuple[InnerState, Tensor, Tensor]:
    """Take one inner step on a minibatch.

    Args:
        model: The network and its loss.
        state: Where it starts; its buffers are updated in place.
        batch: The minibatch.
        optimizer: The inner optimiser.
        values: What it and the loss use.
        step: 0-based; a scalar on the device where steps are recorded.

    Returns:
        The next state, the loss (scalar) and the score (summed) on the minibatch.
    """
    g, loss, score = training_gradient(model, state, batch, optimizer.named(values.loss))
    g = optimizer.transform(g)
    theta, slots = optimizer.rule.update(g, state.theta, state.slots, values.rule, step)
    return InnerState(theta, slots, state.buffers), loss, score


def add_scores(sums: Tensor, loss: Tensor, score: Tensor, batch: Batch) -> None:
    """Add a minibatch's loss and score to running sums, in place.

    Args:
        sums: `(..., 2)` float64 if the device has it; a row each, if several models step together.
        loss: `(...)` mean over the minibatch.
        score: `(...)` sum over it.
        batch: The minibatch.
    """
    sums += torch.stack([widened(loss) * example_count(batch), widened(score)], dim=-1)
