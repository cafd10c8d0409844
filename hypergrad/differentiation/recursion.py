"""The tangents of an inner step: what forward mode carries along, and how one step moves it.

For any rule (see `core.rules.rule`), any transformation of the gradient and any hyperparameters of
the rule and of the loss, with one row a coefficient `lambda`:

    Z = d theta / d lambda        S = d slots / d lambda        Z_0 = S_0 = 0

    G_t = J_transform (H Z_{t-1} + M e_t)        then clipped to ±c_HZ
    (Z_t, S_t) = the rule's own derivative of (g_t, theta_{t-1}, slots_{t-1}, values_t)
    h = (d L_val / d theta_T) Z_T, divided by the number of steps that contributed

`H` is the Hessian of the training loss on the step's minibatch, `M` its mixed derivative by the
parameters and the values of the loss, and `e_t` the derivative of those values by `lambda`: both
together are one product with the Hessian over `(theta, values)`. Memory does not depend on the
horizon.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.gradient_transforms import share_above
from hypergrad.core.inner_optimizer import BoundOptimizer, StepValues
from hypergrad.core.rules import Injection, Rows, State
from hypergrad.core.training_step import Gradient, InnerState, mean_gradient, micro_batches
from hypergrad.curvature import gradient, gradient_and_products
from hypergrad.curvature.low_precision import products_in_precision
from hypergrad.differentiation.active_tangents import ActiveTangents, spans
from hypergrad.differentiation.diagnostics import Diagnostics
from hypergrad.differentiation.options import ForwardOptions

__all__ = ["Tangents", "advance", "tangent_bytes"]


class Tangents(NamedTuple):
    """Derivatives of the inner state with respect to every coefficient of the schedule.

    Attributes:
        Z: `(N, D)` derivatives of theta.
        S: `(N, D)` derivatives of each slot.
        reached: For each row, whether Z can differ from zero.
        diagnostics: What has happened to them.
    """

    Z: Tensor
    S: tuple[Tensor, ...]
    reached: tuple[bool, ...]
    diagnostics: Diagnostics

    @classmethod
    def start(cls, theta: Tensor, slots: int, count: int) -> "Tangents":
        """Return the all-zero tangents of `count` coefficients at `theta` of shape `(D,)`."""
        Z = theta.new_zeros(count, theta.numel())
        S = tuple(torch.zeros_like(Z) for _ in range(slots))
        return cls(Z, S, (False,) * count, Diagnostics.start(theta, count))


def advance(
    model: FlatModel,
    state: InnerState,
    tangents: Tangents,
    batch: Batch,
    optimizer: BoundOptimizer,
    values: StepValues,
    step: int | Tensor,
    rows: ActiveTangents,
    options: ForwardOptions,
    weights: Tensor | None = None,
) -> tuple[InnerState, Tangents, Tensor, Tensor]:
    """Do the arithmetic of `forward_step`; no number is read back from the device.

    Args:
        model: The network and its loss.
        state: Where the step starts; its buffers are updated in place.
        tangents: Of that state.
        batch: The step's minibatch.
        optimizer: The inner optimiser.
        values: What it and the loss use: numbers, or tensors on the device.
        step: 0-based, likewise.
        rows: What the step touches.
        options: Clipping, and how Hessian products are computed.
        weights: `rows.weights` on the device, where steps are recorded.

    Returns:
        As `forward_step`.
    """
    direct = list(zip(rows.direct, rows.weights if weights is None else weights, strict=True))
    live = spans(rows.live)
    E = _loss_directions(rows.live, direct, optimizer, values.loss)
    found = [
        _gradient_and_products(model, state, tangents.Z, live, E, micro, optimizer, values, options)
        for micro in micro_batches(batch)
    ]
    g, loss, score = mean_gradient([each for each, _ in found])
    HZ = found[0][1] if len(found) == 1 else torch.stack([own for _, own in found]).mean(dim=0)
    g, multiply, clipped = optimizer.transform.with_derivative(g)
    G = multiply(HZ)
    limit = options.clip_products
    touched = share_above(G, limit)
    if limit is not None:
        G = G.clamp(-limit, limit)
    rule, before = optimizer.rule, state.optimized
    after = State(*rule.update(g, *before, values.rule, step))
    injected = [
        Injection(each.row, assigned.target, weight, assigned.mask)
        for each, weight in direct
        if not (assigned := optimizer.by_name[each.name]).of_loss
    ]
    Z, S = rule.push(
        State(tangents.Z, tangents.S),
        G,
        before,
        g,
        after,
        values.rule,
        step,
        Rows(spans(rows.moving), live, injected),
    )
    used = {each.row for each in rows.direct}
    diagnostics = tangents.diagnostics.after(Z, rows.live, clipped, touched, used)
    return (
        InnerState(after.theta, after.slots, state.buffers),
        Tangents(Z, S, rows.reached, diagnostics),
        loss,
        score,
    )


def _gradient_and_products(
    model: FlatModel,
    state: InnerState,
    Z: Tensor,
    live: list[slice],
    E: Tensor | None,
    batch: Batch,
    optimizer: BoundOptimizer,
    values: StepValues,
    options: ForwardOptions,
) -> tuple[Gradient, Tensor]:
    """Gradient of one minibatch, and the products of its Hessian with the live rows."""
    size = len(state.theta)
    noted: list[Tensor] = []
    # The training step updates the buffers; its Hessian is that of the loss before.
    buffers = {name: buffer.clone() for name, buffer in state.buffers.items()} if live else {}

    def pure(point: Tensor) -> Tensor:
        return model.loss(point[:size], batch, buffers, optimizer.named(point[size:]))

    def primal(point: Tensor) -> Tensor:
        own = optimizer.named(point[size:])
        loss, score = model.tracked_loss(point[:size], batch, state.buffers, own)
        noted.extend((loss.detach(), score.detach()))
        return loss

    point, rows = state.theta, _gathered(Z, live)
    if len(values.loss):
        point = torch.cat([point, values.loss])
        if E is not None:
            rows = torch.cat([rows, E], dim=1)
    if options.precision is not None:
        # The same gradient with and without products.
        g, HZ = gradient(primal, point), rows
        if live:
            given = model, state.theta, rows, batch, buffers, options.strategy
            HZ = products_in_precision(*given, options.precision)
    else:
        g, HZ = gradient_and_products(pure, point, rows, options.strategy, primal)
    loss, score = noted
    return Gradient(g[:size], loss, score), HZ[:, :size]


def _loss_directions(
    live: tuple[int, ...],
    direct: list,
    optimizer: BoundOptimizer,
    loss_values: Tensor,
) -> Tensor | None:
    """`(live, M)` derivatives of the loss's values by the coefficients behind the live rows."""
    if not len(loss_values):
        return None
    E = loss_values.new_zeros(len(live), len(loss_values))
    place = {row: number for number, row in enumerate(live)}
    for each, weight in direct:
        entries = optimizer.loss_entries.get(each.name)
        if entries is not None and each.row in place:
            E[place[each.row], entries.start + each.entry] += weight
    return E


def _gathered(Z: Tensor, live: list[slice]) -> Tensor:
    """The rows of some slices; a view, which copies nothing, of a single one."""
    return Z[live[0]] if len(live) == 1 else torch.cat([Z[:0], *(Z[span] for span in live)])


def tangent_bytes(weights: int, slots: int) -> int:
    """Return the memory of a value in forward mode: tangents before and after a step, a product.

    Args:
        weights: Bytes of the weights.
        slots: State tensors of the optimiser, each of the weights' size.
    """
    return (2 * (1 + slots) + 1) * weights
