"""Adam (Kingma and Ba) and AdamW (Loshchilov and Hutter).

    m_t = b1 m_{t-1} + (1 - b1) g_t        u_t = b2 u_{t-1} + (1 - b2) g_t^2
    theta_t = theta_{t-1} - alpha (m_t / (1 - b1^t)) / (sqrt(u_t / (1 - b2^t)) + epsilon)

`t` counts from 1 here. Weight decay `mu` is part of the gradient in Adam (`g_t + mu theta_{t-1}`),
and shrinks the parameters apart from it in AdamW (`theta_{t-1} (1 - alpha mu)` first).
"""

import torch
from torch import Tensor

from hypergrad.core.rules.rule import InTorch, Rule, Slots, Values, safe_sqrt

__all__ = ["adam", "adamw"]

NAMES = ("learning_rate", "beta1", "beta2", "epsilon", "weight_decay")


def adam() -> Rule:
    """Return Adam, as `torch.optim.Adam` has it; AMSGrad's maximum is not offered."""
    return _rule("adam", decoupled=False, weight_decay=0.0)


def adamw() -> Rule:
    """Return AdamW, as `torch.optim.AdamW` has it."""
    return _rule("adamw", decoupled=True, weight_decay=0.01)


def _rule(name: str, decoupled: bool, weight_decay: float) -> Rule:
    def update(
        g: Tensor, theta: Tensor, slots: Slots, values: Values, step: int | Tensor
    ) -> tuple[Tensor, Slots]:
        alpha, b1, b2, epsilon, mu = (values[name] for name in NAMES)
        m, u = slots
        if decoupled:
            theta = theta * (1 - alpha * mu)
        else:
            g = g + mu * theta
        m = b1 * m + (1 - b1) * g
        u = b2 * u + (1 - b2) * g * g
        mean, square = m / (1 - b1 ** (step + 1)), u / (1 - b2 ** (step + 1))
        return theta - alpha * mean / (safe_sqrt(square) + epsilon), (m, u)

    defaults: dict[str, float] = dict(
        zip(NAMES, (float("nan"), 0.9, 0.999, 1e-8, weight_decay), strict=True)
    )
    own = InTorch(torch.optim.AdamW if decoupled else torch.optim.Adam)
    return Rule(update, defaults, ("m", "u"), rate="learning_rate", name=name, in_torch=own)
