"""The inner optimiser: one step of SGD with momentum and weight decay (Appendix A).

    v_t     = beta_t v_{t-1} + g_t + mu_t theta_{t-1}
    theta_t = theta_{t-1} - alpha_t v_t

`g_t` is the gradient of the training loss at `theta_{t-1}`, clipped elementwise to `±c_g`.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hypergrad.core.functional_model import FlatModel

__all__ = [
    "InnerState",
    "Rates",
    "add_scores",
    "clip_gradient",
    "sgd_step",
    "share_above",
    "train_step",
]


class Rates(Protocol):
    """What one inner step uses: numbers, or `(K, 1)` tensors where `K` models step together."""

    @property
    def alpha(self) -> float | Tensor:
        """Learning rate."""
        ...

    @property
    def beta(self) -> float | Tensor:
        """Momentum."""
        ...

    @property
    def mu(self) -> float | Tensor:
        """Weight decay."""
        ...


class InnerState(NamedTuple):
    """What the inner loop carries from one step to the next.

    Attributes:
        theta: `(D,)` parameters.
        v: `(D,)` velocity.
        buffers: The model's buffers (running statistics), by name.
    """

    theta: Tensor
    v: Tensor
    buffers: dict[str, Tensor]

    @classmethod
    def start(cls, theta: Tensor, buffers: dict[str, Tensor]) -> "InnerState":
        """Return the state before the first step: `v_0 = 0`, buffers copied."""
        return cls(theta.clone(), torch.zeros_like(theta), buffers).copied()

    def tensors(self) -> list[Tensor]:
        """Return all of it, in a fixed order."""
        return [self.theta, self.v, *self.buffers.values()]

    def copied(self) -> "InnerState":
        """Return this state with buffers of its own: a step makes new weights, but updates them."""
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return InnerState(self.theta, self.v, buffers)


def clip_gradient(g: Tensor, limit: float | None) -> tuple[Tensor, Tensor | None]:
    """Clip a gradient elementwise, and tell through which entries one may differentiate.

    Args:
        g: `(D,)` gradient.
        limit: `c_g`, or None for no clipping.

    Returns:
        The clipped gradient, and a `(D,)` mask that is False where the clip bites (None when there
        is no clipping). Like `torch.clamp`, a value exactly at the limit passes.
    """
    if limit is None:
        return g, None
    return g.clamp(-limit, limit), g.abs() <= limit


def share_above(values: Tensor, limit: float | None) -> Tensor:
    """Return the share of entries that an elementwise clip to `±limit` changes.

    Args:
        values: `(..., D)`.
        limit: Of the clip, or None. NaN is not changed by it.

    Returns:
        `(...)` float64 in [0, 1], on the device of the values.
    """
    if limit is None:
        return values.new_zeros(values.shape[:-1], dtype=torch.float64)
    return (values.abs() > limit).double().mean(dim=-1)


def sgd_step(theta: Tensor, v: Tensor, g: Tensor, values: Rates) -> tuple[Tensor, Tensor]:
    """Take one inner step.

    Args:
        theta: `(D,)` or `(K, D)` parameters `theta_{t-1}`.
        v: Velocity `v_{t-1}`, of the same shape.
        g: (Clipped) gradient at `theta_{t-1}`, likewise.
        values: `alpha_t`, `beta_t`, `mu_t`.

    Returns:
        `theta_t` and `v_t`.
    """
    v = values.beta * v + g + values.mu * theta
    return theta - values.alpha * v, v


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
