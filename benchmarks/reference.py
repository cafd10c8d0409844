"""The inner step with tangents as one would write it down: a second gradient for every column.

Nothing of the library but the network is used, so that gains and losses of the library show.
"""

import torch
from torch import Tensor

from hypergrad.core.functional_model import FlatModel

__all__ = ["reference_step"]


def reference_step(
    model: FlatModel,
    theta: Tensor,
    v: Tensor,
    Z: Tensor,
    C: Tensor,
    batch: tuple[Tensor, Tensor],
    values: tuple[float, float, float],
    counts: tuple[int, int, int],
    limit: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Take one inner step, and carry the tangents of `N` values through it.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters.
        v: `(D,)` velocity.
        Z: `(N, D)` derivatives of `theta`, kind after kind; of each kind the last value is in use.
        C: `(N, D)` derivatives of `v`.
        batch: `(B, ...)` inputs and `(B,)` labels.
        values: Learning rate, momentum and weight decay in use.
        counts: How many of the `N` values are learning rates, momenta and weight decays.
        limit: Elementwise limit on the gradient.

    Returns:
        The next `theta`, `v`, `Z` and `C`.
    """
    alpha, beta, mu = values
    rates, momenta, decays = counts
    point = theta.detach().requires_grad_()
    (g,) = torch.autograd.grad(model.loss(point, batch), point, create_graph=True)
    passes = g.detach().abs() <= limit
    rows = [torch.autograd.grad(g, point, z, retain_graph=True)[0] * passes for z in Z]
    g = g.detach().clamp(-limit, limit)
    C = beta * C + mu * Z + torch.stack(rows)
    if momenta:
        C[rates + momenta - 1] += v
    if decays:
        C[rates + momenta + decays - 1] += theta
    v = beta * v + g + mu * theta
    Z = Z - alpha * C
    Z[rates - 1] -= v
    return theta - alpha * v, v, Z, C
