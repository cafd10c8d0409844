"""Hypergradient descent (HD): one value a kind, updated online from one-step hypergradients.

After inner step `t`, with `theta_{t-1}` and `v_{t-1}` taken as constants and the validation
gradient of a minibatch at `theta_t`:

    d_alpha = -g_val . v_t    d_beta = -alpha g_val . v_{t-1}    d_mu = -alpha g_val . theta_{t-1}

each clipped, then one step of SGD on the value itself (Appendix B, Figure 1).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.schedule import StepValues
from hypergrad.core.sgd import InnerState, train_step
from hypergrad.curvature import gradient

__all__ = ["HypergradientDescentStep", "hypergradient_descent_step"]


class HypergradientDescentStep(NamedTuple):
    """Outcome of one inner step of hypergradient descent.

    Attributes:
        state: Inner state after the step.
        values: alpha, beta, mu for the next step.
        hypergradients: Their one-step hypergradients, before clipping.
        loss: Training loss of the minibatch, a scalar.
        predictions: `(B, classes)` on the minibatch.
    """

    state: InnerState
    values: tuple[float, float, float]
    hypergradients: tuple[float, float, float]
    loss: Tensor
    predictions: Tensor


def hypergradient_descent_step(
    model: FlatModel,
    state: InnerState,
    values: tuple[float, float, float],
    batch: tuple[Tensor, Tensor],
    validation_batch: tuple[Tensor, Tensor],
    *,
    learning_rate: float,
    clip: float,
    clip_gradient: float | None,
    learned: tuple[bool, bool, bool] = (True, True, True),
) -> HypergradientDescentStep:
    """Take one inner step, then one outer step on alpha, beta and mu.

    Args:
        model: The network and its loss.
        state: `theta_{t-1}`, `v_{t-1}`; its buffers are updated in place.
        values: alpha, beta, mu of this step.
        batch: Training minibatch.
        validation_batch: Validation minibatch.
        learning_rate: Of the outer SGD.
        clip: Elementwise limit on the hypergradients.
        clip_gradient: `c_g`, or None.
        learned: Which of alpha, beta and mu move; the others stay.

    Returns:
        The state and the values after the step.
    """
    alpha, beta, mu = values
    step_values = StepValues(alpha, beta, mu, indices=(0, 0, 0))
    after, loss, predictions = train_step(model, state, batch, step_values, clip_gradient)
    g = gradient(lambda theta: model.loss(theta, *validation_batch, after.buffers), after.theta)
    raw = -torch.stack([g @ after.v, alpha * (g @ state.v), alpha * (g @ state.theta)])
    # Read in one go: the device waits once.
    (h_alpha, h_beta, h_mu), moves = torch.stack([raw, raw.clamp(-clip, clip)]).tolist()
    d_alpha, d_beta, d_mu = (d if moved else 0.0 for d, moved in zip(moves, learned, strict=True))
    moved = (
        alpha - learning_rate * d_alpha,
        beta - learning_rate * d_beta,
        mu - learning_rate * d_mu,
    )
    return HypergradientDescentStep(after, moved, (h_alpha, h_beta, h_mu), loss, predictions)
