"""The common interface of all strategies, and the two that need to know nothing of the network."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from hypergrad.curvature.fused import Fused
from hypergrad.curvature.layout import LayoutError
from hypergrad.curvature.stacked import stacked_products

__all__ = [
    "STRATEGIES",
    "check_layout",
    "gradient",
    "gradient_and_multiplier",
    "gradient_and_products",
    "multiplier",
]

Loss = Callable[[Tensor], Tensor]

STRATEGIES = ("loop", "vmap", "stacked", "fused")


def gradient(loss: Loss, theta: Tensor) -> Tensor:
    """Return the gradient of a scalar loss.

    Args:
        loss: Maps `(D,)` parameters to a scalar.
        theta: `(D,)` point.

    Returns:
        `(D,)` gradient, detached.
    """
    theta = theta.detach().requires_grad_()
    return torch.autograd.grad(loss(theta), theta)[0]


def gradient_and_multiplier(loss: Loss, theta: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return the gradient of a scalar loss, and a function that multiplies by its Hessian there.

    Args:
        loss: Maps `(D,)` parameters to a scalar; pure, twice differentiable. Evaluated as `fused`
            does, and once more as it is where that is refused.
        theta: `(D,)` point.

    Returns:
        `(D,)` gradient, detached, and the map from `(N, D)` rows `z_n` to `(N, D)` rows `H z_n`.
        The map holds the graph of the gradient: as much memory as the batch's activations.
    """
    point = theta.detach().requires_grad_()
    try:
        with Fused():
            value = loss(point)
    except LayoutError:
        value = loss(point)
    g = torch.autograd.grad(value, point, create_graph=True)[0]
    return g.detach(), multiplier(g, point)


def multiplier(g: Tensor, point: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what multiplies by the derivative of a gradient, on its graph.

    Args:
        g: `(D,)` gradient at `point`, differentiable.
        point: `(D,)`.

    Returns:
        The map from `(N, D)` rows `z_n` to `(N, D)` rows `H z_n`, which holds the graph.
    """
    return lambda Z: _loop(g, point, Z)


def gradient_and_products(
    loss: Loss, theta: Tensor, Z: Tensor, strategy: str = "loop", primal: Loss | None = None
) -> tuple[Tensor, Tensor]:
    """Return the gradient `g` and the Hessian products `H z_n` of a scalar loss.

    Args:
        loss: Maps `(D,)` parameters to a scalar; pure, twice differentiable.
        theta: `(D,)` point.
        Z: `(N, D)`, one tangent a row; `N = 0` costs one gradient and nothing more.
        strategy: One of `STRATEGIES`; the same numbers up to rounding.
        primal: The same loss, evaluated exactly once and outside any `torch.func` transform, so
            that it may note things in passing (predictions, running statistics).

    Returns:
        `g` of shape `(D,)` and `HZ` of shape `(N, D)`, both detached.

    Raises:
        ValueError: For an unknown strategy, or a loss that it cannot take.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown curvature strategy {strategy!r}: use one of {STRATEGIES}")
    if strategy == "stacked" and len(Z):
        return stacked_products(primal or loss, theta, Z)
    looped = strategy != "vmap" and len(Z) > 0
    point = theta.detach().requires_grad_()
    # Without columns too: a gradient is then the same to the last bit whatever is asked beside it.
    with Fused() if strategy == "fused" else nullcontext():
        value = (primal or loss)(point)
    g = torch.autograd.grad(value, point, create_graph=looped)[0]
    if not len(Z):
        return g, Z
    HZ = _loop(g, point, Z) if looped else _vmap(loss, theta.detach(), Z)
    return g.detach(), HZ


def check_layout(loss: Loss, theta: Tensor) -> None:
    """Refuse a loss whose value would change with the memory layout of `fused`.

    Args:
        loss: Maps `(D,)` parameters to a scalar; evaluated once. It may draw random numbers: the
            generators are left as they are.
        theta: `(D,)` point.

    Raises:
        LayoutError: With the name of the operation.
    """
    devices = [theta.device] if theta.is_cuda else []
    try:
        with torch.random.fork_rng(devices), Fused():
            loss(theta.detach().requires_grad_())
    except LayoutError:
        raise
    except Exception:  # noqa: BLE001, S110 (a batch as small as this may fail where others work)
        pass


def _loop(g: Tensor, point: Tensor, Z: Tensor) -> Tensor:
    if not g.requires_grad:  # a loss linear in theta
        return torch.zeros_like(Z)
    rows = [
        torch.autograd.grad(g, point, z, retain_graph=True, materialize_grads=True)[0] for z in Z
    ]
    return torch.stack(rows)


def _vmap(loss: Loss, theta: Tensor, Z: Tensor) -> Tensor:
    def product(z: Tensor) -> Tensor:
        return jvp(grad(loss), (theta,), (z,))[1]

    with warnings.catch_warnings():
        # PyTorch compiles its own jvp rules on the first call, through an interface it deprecates.
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
        return vmap(product, randomness="same")(Z)
