"""RMSprop: the gradient over the root of a moving average of its square (Tieleman and Hinton).

    u_t = rho u_{t-1} + (1 - rho) g_t^2        a_t = rho a_{t-1} + (1 - rho) g_t   (centered)
    b_t = beta b_{t-1} + g_t / (sqrt(u_t - a_t^2) + epsilon)
    theta_t = theta_{t-1} - alpha b_t

`rho` is the smoothing, `beta` the momentum; weight decay is part of the gradient.
"""

import torch
from torch import Tensor

from hypergrad.core.rules.rule import InTorch, Rule, Slots, Values, safe_sqrt

__all__ = ["rmsprop"]

NAMES = ("learning_rate", "smoothing", "momentum", "epsilon", "weight_decay")


def rmsprop(centered: bool = False) -> Rule:
    """Return RMSprop, as `torch.optim.RMSprop` has it.

    Args:
        centered: Whether the square of the mean gradient is taken off that of the square.
    """

    def update(
        g: Tensor, theta: Tensor, slots: Slots, values: Values, step: int | Tensor
    ) -> tuple[Tensor, Slots]:
        alpha, rho, beta, epsilon, mu = (values[name] for name in NAMES)
        u, b, *rest = slots
        g = g + mu * theta
        u = rho * u + (1 - rho) * g * g
        variance = u
        if centered:
            rest = [rho * rest[0] + (1 - rho) * g]
            # Rounding can take it below zero, where torch has NaN.
            variance = torch.clamp(u - rest[0] * rest[0], min=0.0)
        b = beta * b + g / (safe_sqrt(variance) + epsilon)
        return theta - alpha * b, (u, b, *rest)

    defaults: dict[str, float] = dict(zip(NAMES, (float("nan"), 0.99, 0.0, 1e-8, 0.0), strict=True))
    slots = ("u", "b", "a") if centered else ("u", "b")
    own = InTorch(torch.optim.RMSprop, {"momentum": 0.5, "centered": centered})
    return Rule(
        update,
        defaults,
        slots,
        rate="learning_rate",
        name="rmsprop",
        in_torch=own,
        inertia=NAMES[2],
    )
