"""Batch normalisation, and a ReLU after it, with a double backward pass in closed form.

Over the `M` entries of a channel, `h = (x - mean) s` with `s = 1 / sqrt(var + eps)`, and
`a = relu(g h + b)`. With `u` the gradient of `a` where `a > 0` (of `g h + b` without a ReLU),
`S0 = sum u` and `S1 = sum u h`, the backward pass gives

    gx = g s (u - S0/M - h S1/M)        gg = S1        gb = S0

and its derivatives along `X` (of `gx`), `G` (of `gg`) and `B` (of `gb`) are, with `D0 = sum X`,
`D1 = sum X h`, `T = sum X u - D0 S0/M - D1 S1/M`, `c = G - g s D1/M` and `k = g s S1/M`,

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


class _Context(FunctionCtx):
    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]


_masked = torch.ops.aten.threshold_backward


class Normalised(NamedTuple):
    """A normalised input, and what it takes to take in a ReLU after it.

    Attributes:
        y: The output.
        inputs: `x`, `g`, `b`, `h`, `s`; None if normalisation used running statistics.
    """

    y: Tensor
    inputs: tuple[Tensor | None, ...] | None = None

    def rectified(self) -> Tensor:
        """Return `relu(y)`."""
        if self.inputs is None:
            return F.relu(self.y)
        return _apply(*self.inputs, True)


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
    """Return what `torch.nn.functional.batch_norm` returns; arguments as there."""
    if not training or input.numel() == input.shape[1]:  # which PyTorch refuses
        given = input, running_mean, running_var, weight, bias, training, momentum, eps
        return Normalised(F.batch_norm(*given))
    with torch.no_grad():  # PyTorch's own kernel also updates the running statistics
        h, _, s = torch.native_batch_norm(
            input, None, None, running_mean, running_var, True, momentum, eps
        )
    inputs = input, weight, bias, h, s
    return Normalised(_apply(*inputs, False), inputs)


def _apply(*given: object) -> Tensor:
    y = _Normalisation.apply(*given)
    assert isinstance(y, Tensor)
    return y


class _Normalisation(Function):
    @staticmethod
    def forward(
        ctx: _Context,
        x: Tensor,
        g: Tensor | None,
        b: Tensor | None,
        h: Tensor,
        s: Tensor,
        rectified: bool,
    ) -> Tensor:
        y = h.clone() if g is None else h * _wide(g, h)
        if b is not None:
            y += _wide(b, h)
        if rectified:
            y.relu_()
        # What is saved of `x` is `x` itself, through which the backward pass depends on it.
        ctx.save_for_backward(x, g, h, s, y if rectified else None)  # type: ignore[arg-type]
        return y

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        gx, gg, gb = _NormalisationBackward.apply(*grad_outputs, *ctx.saved_tensors)
        needs = ctx.needs_input_grad
        return gx, gg if needs[1] else None, gb if needs[2] else None, None, None, None


class _NormalisationBackward(Function):
    @staticmethod
    def forward(
        ctx: _Context,
        gy: Tensor,
        x: Tensor,
        g: Tensor | None,
        h: Tensor,
        s: Tensor,
        a: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        M = h.numel() // len(s)
        u = gy if a is None else _masked(gy, a, 0)
        S0, S1 = _sum(u), _sum(u * h)
        gs = s if g is None else g * s
        gx = _combined(-gs * S0 / M, (u, gs), (h, -gs * S1 / M))
        ctx.save_for_backward(g, h, s, a, u, S0, S1)  # type: ignore[arg-type]
        return gx, S1, S0

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: _Context, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        X, G, B = grad_outputs
        g, h, s, a, u, S0, S1 = ctx.saved_tensors
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
        return along_u, along_x, None if g is None else s * T, None, None, None


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
