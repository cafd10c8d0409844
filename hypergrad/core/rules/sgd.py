"""SGD with momentum and weight decay (Appendix A), with its derivatives as written there.

    v_t     = beta_t v_{t-1} + g_t + mu_t theta_{t-1}
    theta_t = theta_{t-1} - alpha_t v_t

`alpha` is the learning rate, `beta` the momentum, `mu` the weight decay. Forward mode, stacked over
all values (`Z = d theta / d lambda`, `C = d v / d lambda`, one row a value):

    C_t = beta_t C_{t-1} + mu_t Z_{t-1} + G_t + v_{t-1} e_beta + theta_{t-1} e_mu
    Z_t = Z_{t-1} - alpha_t C_t - v_t e_alpha

`G` is the tangent of the (clipped) gradient; `e_alpha`, `e_beta`, `e_mu` select the value in use.
The appendix prints `v_t` in place of `v_{t-1}` in `C_t^beta`; that is a misprint, as
`d v_t / d beta_t = v_{t-1}`. Reverse mode, with adjoints `P` of theta and `Q` of v:

    U_t = Q_t - alpha_t P_t
    h_alpha = -P_t . v_t       h_beta = U_t . v_{t-1}       h_mu = U_t . theta_{t-1}
    P_{t-1} = P_t + mu_t U_t + (through g_t, whose adjoint is U_t)      Q_{t-1} = beta_t U_t
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hypergrad.core.rules.rule import InTorch, Pulled, Rows, Rule, Slots, State, Value, Values

__all__ = ["NAMES", "sgd"]

NAMES = ALPHA, BETA, MU = ("learning_rate", "momentum", "weight_decay")
DEFAULTS = {ALPHA: float("nan"), BETA: 0.0, MU: 0.0}


def sgd(nesterov: bool = False, dampening: float = 0.0) -> Rule:
    """Return SGD, as `torch.optim.SGD` has it.

    Args:
        nesterov: Whether a step looks ahead along the velocity.
        dampening: Takes this share off every gradient but the first. torch leaves it out where the
            momentum is exactly 0.

    Returns:
        A rule of `learning_rate`, `momentum` and `weight_decay`.

    Raises:
        ValueError: For Nesterov with dampening, which torch refuses too.
    """
    if not nesterov and dampening == 0:
        own = InTorch(torch.optim.SGD, {"momentum": 0.5})
        return _Plain(_update, DEFAULTS, ("v",), rate=ALPHA, name="sgd", in_torch=own, inertia=BETA)
    if nesterov and dampening:
        raise ValueError(f"nesterov with dampening={dampening}: use dampening=0")

    def update(
        g: Tensor, theta: Tensor, slots: Slots, values: Values, step: int | Tensor
    ) -> tuple[Tensor, Slots]:
        alpha, beta, mu = (values[name] for name in NAMES)
        g = g + mu * theta
        later = step > 0
        if isinstance(later, Tensor):  # in double precision, as the number is otherwise
            later = later.double()
        v = beta * slots[0] + (1 - dampening * later) * g
        return theta - alpha * (g + beta * v if nesterov else v), (v,)

    name = "nesterov" if nesterov else "sgd"
    own = InTorch(torch.optim.SGD, {"momentum": 0.5, "nesterov": nesterov, "dampening": dampening})
    return Rule(update, DEFAULTS, ("v",), rate=ALPHA, name=name, in_torch=own, inertia=BETA)


def _update(
    g: Tensor, theta: Tensor, slots: Slots, values: Values, step: int | Tensor
) -> tuple[Tensor, Slots]:
    alpha, beta, mu = (values[name] for name in NAMES)
    v = beta * slots[0] + g + mu * theta
    return theta - alpha * v, (v,)


@dataclass(frozen=True)
class _Plain(Rule):
    """The rule with the derivatives at the top, in few sweeps over the memory."""

    def push(
        self,
        tangents: State,
        G: Tensor,
        before: State,
        g: Tensor,
        after: State,
        values: Values,
        step: int | Tensor,
        rows: Rows,
    ) -> State:
        """Return `Z_t` and `C_t`."""
        alpha, beta, mu = (values[name] for name in NAMES)
        old_Z, (old_C,) = tangents
        still = sum(span.stop - span.start for span in rows.moving) < len(old_Z)
        Z, C = (t.clone() if still else torch.empty_like(t) for t in (old_Z, old_C))
        for span in rows.moving:
            torch.mul(old_C[span], beta, out=C[span])
            _add_multiple(C[span], old_Z[span], mu, C[span])
        if rows.live:
            sizes = [span.stop - span.start for span in rows.live]
            for span, own in zip(rows.live, G.split(sizes), strict=True):
                C[span] += own
        direct = {ALPHA: after.slots[0], BETA: before.slots[0], MU: before.theta}
        for row, value, weight, mask in rows.injected:
            if value != ALPHA:
                C[row] += _weighted(direct[value], weight, mask)
        for span in rows.moving:
            _add_multiple(old_Z[span], C[span], -alpha, Z[span])
        for row, value, weight, mask in rows.injected:
            if value == ALPHA:
                Z[row] -= _weighted(direct[value], weight, mask)
        return State(Z, (C,))

    def pull(
        self,
        adjoints: State,
        before: State,
        g: Tensor,
        values: Values,
        step: int | Tensor,
        names: Sequence[str],
    ) -> Pulled:
        """Return the adjoints at the top; of the values, before they are summed."""
        alpha, beta, mu = (values[name] for name in NAMES)
        P, (Q,) = adjoints
        v = beta * before.slots[0] + g + mu * before.theta
        U = Q - alpha * P
        direct = {ALPHA: (P, -v), BETA: (U, before.slots[0]), MU: (U, before.theta)}
        own = {name: [direct[name]] for name in names}
        return Pulled(U, State(P + mu * U, (beta * U,)), own)

    def ahead(
        self,
        g_val: Tensor,
        before: State,
        g: Tensor,
        after: State,
        values: Values,
        step: int | Tensor,
        names: Sequence[str],
    ) -> Tensor:
        """Return `-g_val . v_t`, `-alpha g_val . v_{t-1}` and `-alpha g_val . theta_{t-1}`."""
        alpha = values[ALPHA]
        each = {
            ALPHA: lambda: g_val @ after.slots[0],
            BETA: lambda: alpha * (g_val @ before.slots[0]),
            MU: lambda: alpha * (g_val @ before.theta),
        }
        return -torch.stack([each[name]() for name in names])


def _add_multiple(t: Tensor, more: Tensor, factor: Value, out: Tensor) -> None:
    """Write `t + factor more` to `out`: the same bits for a number and for a scalar tensor."""
    if isinstance(factor, Tensor):
        torch.addcmul(t, more, factor, out=out)
    else:
        torch.add(t, more, alpha=factor, out=out)


def _weighted(direction: Tensor, weight: Value, mask: Tensor | None) -> Tensor:
    direction = direction if mask is None else mask * direction
    return direction if isinstance(weight, float) and weight == 1 else weight * direction
