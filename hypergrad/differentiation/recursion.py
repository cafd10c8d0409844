"""The tangents of an inner step: what forward mode carries along, and how one step moves it.

Notation (Appendix A, stacked over all `N = N_alpha + N_beta + N_mu` values; one row of `Z` and `C`
a value, so both are `(N, D)`):

    Z_t = d theta_t / d lambda        C_t = d v_t / d lambda        Z_0 = C_0 = 0

    C_t = beta_t C_{t-1} + mu_t Z_{t-1} + clip(H Z_{t-1}, ±c_HZ) + v_{t-1} e_beta + theta_{t-1} e_mu
    Z_t = Z_{t-1} - alpha_t C_t - v_t e_alpha
    h   = (d L_val / d theta_T) Z_T, divided by the number of steps that contributed

`H` is the Hessian of the training loss on the step's minibatch, with zero rows where the gradient
clip bites, and `e_alpha`, `e_beta`, `e_mu` select the value in use at step `t`. The appendix prints
`v_t` in place of `v_{t-1}` in `C_t^beta`; that is a misprint: `d v_t / d beta_t = v_{t-1}`.
Memory does not depend on the horizon.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.sgd import InnerState, Rates, clip_gradient, sgd_step, share_above
from hypergrad.curvature import gradient, gradient_and_products
from hypergrad.curvature.low_precision import products_in_precision
from hypergrad.differentiation.active_tangents import ActiveTangents, spans
from hypergrad.differentiation.diagnostics import Diagnostics
from hypergrad.differentiation.options import ForwardOptions

__all__ = ["Tangents", "advance"]


class Tangents(NamedTuple):
    """Derivatives of the inner state with respect to every value of the schedule.

    Where several ranks carry them, `N` is the number of those in this rank's share.

    Attributes:
        Z: `(N, D)` derivatives of theta.
        C: `(N, D)` derivatives of v.
        reached: For each row, whether Z can differ from zero: only these need a product.
        diagnostics: What has happened to them.
    """

    Z: Tensor
    C: Tensor
    reached: tuple[bool, ...]
    diagnostics: Diagnostics

    @classmethod
    def start(cls, theta: Tensor, count: int) -> "Tangents":
        """Return the all-zero tangents of `count` values at `theta` of shape `(D,)`."""
        Z = theta.new_zeros(count, theta.numel())
        return cls(Z, torch.zeros_like(Z), (False,) * count, Diagnostics.start(theta, count))


def advance(
    model: FlatModel,
    state: InnerState,
    tangents: Tangents,
    batch: Batch,
    values: Rates,
    rows: ActiveTangents,
    options: ForwardOptions,
) -> tuple[InnerState, Tangents, Tensor, Tensor]:
    """Do the arithmetic of `forward_step`; no number is read back from the device.

    Args:
        model: The network and its loss.
        state: `theta_{t-1}`, `v_{t-1}`; its buffers are updated in place.
        tangents: `Z_{t-1}`, `C_{t-1}`.
        batch: The step's minibatch: `(B, ...)` inputs and `(B,)` labels.
        values: `alpha_t`, `beta_t`, `mu_t`: numbers, or scalars on the device.
        rows: What the step touches.
        options: Clipping, and how Hessian products are computed.

    Returns:
        As `forward_step`.
    """
    x, y = batch
    live = spans(rows.live)
    noted: list[Tensor] = []
    # The training step updates the buffers; its Hessian is that of the loss before.
    buffers = {name: buffer.clone() for name, buffer in state.buffers.items()} if live else {}

    def primal(theta: Tensor) -> Tensor:
        loss, predictions = model.tracked_loss(theta, x, y, state.buffers)
        noted.extend((loss.detach(), predictions.detach()))
        return loss

    Z = _gathered(tangents.Z, live)
    if options.precision is not None:
        # The same gradient with and without products: ranks differ in what they carry.
        g, HZ = gradient(primal, state.theta), Z
        if live:
            given = model, state.theta, Z, batch, buffers, options.strategy
            HZ = products_in_precision(*given, options.precision)
    else:
        g, HZ = gradient_and_products(
            lambda theta: model.loss(theta, x, y, buffers),
            state.theta,
            Z,
            options.strategy,
            primal,
        )
    clipped = share_above(g, options.clip_gradient)
    g, passes = clip_gradient(g, options.clip_gradient)
    if passes is not None:
        HZ = torch.where(passes, HZ, 0.0)  # zero, even where the product overflowed
    limit = options.clip_products
    touched = share_above(HZ, limit)
    if limit is not None:
        HZ = HZ.clamp(-limit, limit)
    theta, v = sgd_step(state.theta, state.v, g, values)

    Z, C = _recursion(tangents, HZ, state, v, values, rows)
    loss, predictions = noted
    return (
        InnerState(theta, v, state.buffers),
        Tangents(Z, C, rows.reached, tangents.diagnostics.after(Z, rows.live, clipped, touched)),
        loss,
        predictions,
    )


def _recursion(
    tangents: Tangents,
    HZ: Tensor,
    state: InnerState,
    v: Tensor,
    values: Rates,
    rows: ActiveTangents,
) -> tuple[Tensor, Tensor]:
    """Return the next `Z` and `C`, by the equations at the top; few sweeps over the memory."""
    still = len(rows.moving) < len(tangents.Z)
    Z, C = (t.clone() if still else torch.empty_like(t) for t in (tangents.Z, tangents.C))
    moving = spans(rows.moving)
    for span in moving:
        torch.mul(tangents.C[span], values.beta, out=C[span])
        _add_multiple(C[span], tangents.Z[span], values.mu, C[span])
    live = spans(rows.live)
    for span, product in zip(live, HZ.split([s.stop - s.start for s in live]), strict=True):
        C[span] += product
    if rows.beta is not None:
        C[rows.beta] += state.v
    if rows.mu is not None:
        C[rows.mu] += state.theta
    for span in moving:
        _add_multiple(tangents.Z[span], C[span], -values.alpha, Z[span])
    if rows.alpha is not None:
        Z[rows.alpha] -= v
    return Z, C


def _add_multiple(t: Tensor, more: Tensor, factor: float | Tensor, out: Tensor) -> None:
    """Write `t + factor more` to `out`: the same bits for a number and for a scalar tensor."""
    if isinstance(factor, Tensor):
        torch.addcmul(t, more, factor, out=out)
    else:
        torch.add(t, more, alpha=factor, out=out)


def _gathered(Z: Tensor, live: list[slice]) -> Tensor:
    """The rows of some slices; a view, which copies nothing, of a single one."""
    return Z[live[0]] if len(live) == 1 else torch.cat([Z[:0], *(Z[span] for span in live)])
