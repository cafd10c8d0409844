"""Batch normalisation, with a ReLU after it, whose double backward is one reduction and one pass.

Over the `M` entries of a channel, `h = (x - mean) s` with `s = 1 / sqrt(var + eps)`, and
`a = relu(g h + b)`. With `u` the gradient of `a` where `a > 0`, `S0 = sum u`, `S1 = sum u h`, the
backward pass gives

    gx = g s (u - S0/M - h S1/M)        gg = S1        gb = S0

and its derivatives along `X` (of `gx`), `G` and `B`, with `D0 = sum X`, `D1 = sum X h`,
`T = sum X u - D0 S0/M - D1 S1/M`, `c = G - g s D1/M`, `k = g s S1/M`, are

    for u:  g s (X - D0/M) + c h + B
    for x:  s (c u - k X) - s/M (c S0 - k D0) - s/M (c S1 - k D1 + g s T) h
    for g:  s T
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

__all__ = ["Normalised", "normalise"]


class Normalised(NamedTuple):
    """A normalised input, and what a ReLU after it needs to be taken in.

    Attributes:
        y: The output.
    """

    y: Tensor
    x: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None
    h: Tensor | None = None
    s: Tensor | None = None

    def rectified(self) -> Tensor:
        """Return `relu(y)`."""
        if self.h is None:
            return F.relu(self.y)
        return _apply(self.x, self.weight, self.bias, self.h, self.s, F.relu(self.y.detach()), True)


def normalise(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Normalised:
    """Return what `torch.nn.functional.batch_norm` returns; arguments as there.

    The running statistics are updated by the same kernel as PyTorch's own.
    """
    if not training:
        y = F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        return Normalised(y, input)
    with torch.no_grad():
        h, mean, s = torch.native_batch_norm(
            input, None, None, running_mean, running_var, True, momentum, eps
        )
        y = h
        if weight is not None:
            y = y * _wide(weight, h)
        if bias is not None:
            y = y + _wide(bias, h)
    return Normalised(_apply(input, weight, bias, h, s, y, False), input, weight, bias, h, s)


def _apply(*args: object) -> Tensor:
    y = _Normalisation.apply(*args)
    assert isinstance(y, Tensor)
    return y


class _Normalisation(Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        g: Tensor | None,
        b: Tensor | None,
        h: Tensor,
        s: Tensor,
        y: Tensor,
        rectified: bool,
    ) -> Tensor:
        ctx.save_for_backward(x, g, h, s, y if rectified else None)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: FunctionCtx, gy: Tensor) -> tuple[Tensor | None, ...]:
        x, g, h, s, a = ctx.saved_tensors
        gx, gg, gb = _NormalisationBackward.apply(gy, x, g, h, s, a)
        needs = ctx.needs_input_grad
        return gx, gg if needs[1] else None, gb if needs[2] else None, None, None, None, None


class _NormalisationBackward(Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        gy: Tensor,
        x: Tensor,
        g: Tensor | None,
        h: Tensor,
        s: Tensor,
        a: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        M = h.numel() // len(s)
        u = gy if a is None else torch.ops.aten.threshold_backward(gy, a, 0)
        S0, S1 = _sum(u), _dot(u, h)
        gs = s if g is None else g * s
        gx = torch.addcmul(_wide(-gs * S0 / M, h), u, _wide(gs, h))
        gx.addcmul_(h, _wide(-gs * S1 / M, h))
        ctx.save_for_backward(g, h, s, a, u, S0, S1)
        return gx, S1, S0

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, X: Tensor, G: Tensor, B: Tensor) -> tuple[Tensor | None, ...]:
        g, h, s, a, u, S0, S1 = ctx.saved_tensors
        M = h.numel() // len(s)
        D0, D1 = _sum(X), _dot(X, h)
        T = _dot(X, u) - (D0 * S0 + D1 * S1) / M
        gs = s if g is None else g * s
        c, k = G - gs * D1 / M, gs * S1 / M
        along_u = torch.addcmul(_wide(B - gs * D0 / M, h), X, _wide(gs, h)).addcmul_(h, _wide(c, h))
        if a is not None:
            along_u = torch.ops.aten.threshold_backward(along_u, a, 0)
        along_x = torch.addcmul(_wide((k * D0 - c * S0) * s / M, h), u, _wide(s * c, h))
        along_x.addcmul_(X, _wide(-s * k, h))
        along_x.addcmul_(h, _wide((k * D1 - c * S1 - gs * T) * s / M, h))
        return along_u, along_x, None if g is None else s * T, None, None, None


def _wide(channels: Tensor, like: Tensor) -> Tensor:
    """One value a channel, to be combined with `(B, C, ...)`."""
    return channels.view(-1, *[1] * (like.dim() - 2))


def _rows(t: Tensor) -> Tensor:
    """`(B, C, ...)` as `(M, C)`; a view where channels come last in memory."""
    return t.movedim(1, -1).flatten(0, -2)


def _sum(t: Tensor) -> Tensor:
    return _rows(t).sum(0)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sums of products, a channel each: by a matrix product, which reads both just once."""
    return (_rows(a).T @ _rows(b)).diagonal()
