"""One training step with given values, and its score: what all that only trains goes through."""

import torch
from torch import Tensor

from hypergrad.flat import FlatModel
from hypergrad.sgd import InnerState, Rates, clip_gradient, sgd_step

__all__ = ["add_scores", "train_step"]


def train_step(
    model: FlatModel,
    state: InnerState,
    batch: tuple[Tensor, Tensor],
    values: Rates,
    limit: float | None,
) -> tuple[InnerState, Tensor, Tensor]:
    """Take one inner step on a minibatch.

    Args:
        model: The network and its loss.
        state: `theta_{t-1}`, `v_{t-1}`; its buffers are updated in place.
        batch: `(B, ...)` inputs and `(B,)` labels.
        values: `alpha_t`, `beta_t`, `mu_t`: numbers, or scalars on the device.
        limit: `c_g`, elementwise limit on the gradient, or None.

    Returns:
        The next state, the loss (scalar) and the predictions on the minibatch.
    """
    point = state.theta.detach().requires_grad_()
    loss, predictions = model.tracked_loss(point, *batch, state.buffers)
    g, _ = clip_gradient(torch.autograd.grad(loss, point)[0], limit)
    theta, v = sgd_step(state.theta, state.v, g, values)
    return InnerState(theta, v, state.buffers), loss.detach(), predictions.detach()


def add_scores(sums: Tensor, loss: Tensor, predictions: Tensor, labels: Tensor) -> None:
    """Add a minibatch's loss and its correct predictions to running sums, in place.

    Args:
        sums: `(..., 2)` float64; of several models that step together, one row each.
        loss: `(...)` mean over the minibatch.
        predictions: `(..., B, classes)`.
        labels: `(B,)`.
    """
    correct = (predictions.argmax(-1) == labels).sum(-1)
    sums += torch.stack([loss.double() * len(labels), correct.double()], dim=-1)
