"""The arithmetic of batch normalisation and a ReLU after it, with its derivatives.

Over the `M` entries of a channel, `h = (x - mean) s` with `s = 1 / sqrt(var + eps)`, and
`a = relu(g h + b)`. With `u` the gradient of `a` where `a > 0` (of `g h + b` without a ReLU),
`S0 = sum u` and `S1 = sum u h`, the backward pass gives

    gx = g s (u - S0/M - h S1/M)        gg = S1        gb = S0

and its derivatives along `X` (of `gx`), `G` (of `gg`) and `B` (of `gb`) are, with `D0 = sum X`,
`D1 = sum X h`, `T = sum X u - D0 S0/M - D1 S1/M`, `c = G - g s D1/M` and `k = g s S1/M`,

    for u:  g s (X - D0/M) + c h + B
    for x:  s (c u - k X) - s/M (c S0 - k D0) - s/M (c S1 - k D1 + g s T) h
    for g:  s T

Activations are `(M, C)` or `(B, C, ...)`, everything else is `(C,)`.
"""

import torch
from torch import Tensor

__all__ = ["backward", "double_backward", "forward"]

_masked = torch.ops.aten.threshold_backward


def forward(h: Tensor, g: Tensor | None, b: Tensor | None, rectified: bool) -> Tensor:
    """Return `a`, or `g h + b` if it is not to be rectified."""
    y = h.clone() if g is None else h * _wide(g, h)
    if b is not None:
        y += _wide(b, h)
    return y.relu_() if rectified else y


def backward(
    gy: Tensor, h: Tensor, g: Tensor | None, s: Tensor, a: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Map the gradient of `a` (which is None without a ReLU) to `gx`, `u`, `S0`, `S1`."""
    M = h.numel() // len(s)
    u = gy if a is None else _masked(gy, a, 0)
    S0, S1 = _sum(u), _sum(u * h)
    gs = s if g is None else g * s
    return _combined(-gs * S0 / M, (u, gs), (h, -gs * S1 / M)), u, S0, S1


def double_backward(
    X: Tensor,
    G: Tensor,
    B: Tensor,
    h: Tensor,
    g: Tensor | None,
    s: Tensor,
    a: Tensor | None,
    u: Tensor,
    S0: Tensor,
    S1: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Map `X`, `G` and `B` to the derivatives for `u` (zero where `a` is), `x` and `g`."""
    M = h.numel() // len(s)
    gs = s if g is None else g * s
    D0, D1 = _sum(X), _sum(X * h)
    T = _sum(X * u) - (D0 * S0 + D1 * S1) / M
    c, k = G - gs * D1 / M, gs * S1 / M
    along_u = _combined(B - gs * D0 / M, (X, gs), (h, c))
    if a is not None:
        _masked.grad_input(along_u, a, 0, grad_input=along_u)
    slope = (k * D1 - c * S1 - gs * T) * s / M
    along_x = _combined((k * D0 - c * S0) * s / M, (u, s * c), (X, -s * k), (h, slope))
    return along_u, along_x, s * T


def _wide(channels: Tensor, like: Tensor) -> Tensor:
    """One value a channel, to be combined with `(B, C, ...)`."""
    return channels.view(-1, *[1] * (like.dim() - 2))


def _sum(t: Tensor) -> Tensor:
    """Sums over all but the channels."""
    return t.sum([dim for dim in range(t.dim()) if dim != 1])


def _combined(
    constant: Tensor, first: tuple[Tensor, Tensor], *more: tuple[Tensor, Tensor]
) -> Tensor:
    """A constant and multiples of tensors; the constant and the factors are one a channel."""
    t, factor = first
    total = torch.addcmul(_wide(constant, t), t, _wide(factor, t))
    for t, factor in more:
        total.addcmul_(t, _wide(factor, t))
    return total
