"""One training step with given values: what every method that only trains goes through."""

import torch
from torch import Tensor

from hypergrad.flat import FlatModel
from hypergrad.schedule import StepValues
from hypergrad.sgd import InnerState, clip_gradient, sgd_step

__all__ = ["train_step"]


def train_step(
    model: FlatModel,
    state: InnerState,
    batch: tuple[Tensor, Tensor],
    values: StepValues,
    limit: float | None,
) -> tuple[InnerState, Tensor, Tensor]:
    """Take one inner step on a minibatch.

    Args:
        model: The network and its loss.
        state: `theta_{t-1}`, `v_{t-1}`; its buffers are updated in place.
        batch: `(B, ...)` inputs and `(B,)` labels.
        values: `alpha_t`, `beta_t`, `mu_t`.
        limit: `c_g`, elementwise limit on the gradient, or None.

    Returns:
        The next state, the loss (scalar) and the predictions on the minibatch.
    """
    point = state.theta.detach().requires_grad_()
    loss, predictions = model.tracked_loss(point, *batch, state.buffers)
    g, _ = clip_gradient(torch.autograd.grad(loss, point)[0], limit)
    theta, v = sgd_step(state.theta, state.v, g, values)
    return InnerState(theta, v, state.buffers), loss.detach(), predictions.detach()
