"""Batch normalisation, and a ReLU after it, with a double backward pass in closed form.

The arithmetic is that of `batch_norm_statistics` and `batch_norm_kernels`; here is what autograd
must know of it.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from hypergrad.curvature.batch_norm_kernels import PLAIN, Kernels
from hypergrad.curvature.batch_norm_statistics import standardise

__all__ = ["Normalised", "normalise"]


class _Context(FunctionCtx):
    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
    kernels: Kernels


class Normalised(NamedTuple):
    """A normalised input, and what it takes to take in a ReLU after it.

    Attributes:
        y: The output.
        inputs: `x`, `g`, `b`, `h`, `s`; None if normalisation used running statistics.
        kernels: What computes.
    """

    y: Tensor
    inputs: tuple[Tensor | None, ...] | None = None
    kernels: Kernels = PLAIN

    def rectified(self) -> Tensor:
        """Return `relu(y)`."""
        if self.inputs is None:
            return F.relu(self.y)
        return _apply(*self.inputs, True, self.kernels)


def normalise(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    kernels: Kernels = PLAIN,
) -> Normalised:
    """Return what `torch.nn.functional.batch_norm` returns; arguments as there, and kernels."""
    if not training or input.numel() == input.shape[1]:  # which PyTorch refuses
        given = input, running_mean, running_var, weight, bias, training, momentum, eps
        return Normalised(F.batch_norm(*given))
    with torch.no_grad():
        h, s = standardise(input, running_mean, running_var, momentum, eps)
    inputs = input, weight, bias, h, s
    return Normalised(_apply(*inputs, False, kernels), inputs, kernels)


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
        kernels: Kernels,
    ) -> Tensor:
        ctx.kernels = kernels
        y = _image(kernels.forward(_table(h), _value(g), _value(b), rectified), h)
        # What is saved of `x` is `x` itself, through which the backward pass depends on it.
        ctx.save_for_backward(x, g, h, s, y if rectified else None)  # type: ignore[arg-type]
        return y

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        found = _NormalisationBackward.apply(*grad_outputs, *ctx.saved_tensors, ctx.kernels)
        gx, gg, gb = found
        needs = ctx.needs_input_grad
        return gx, gg if needs[1] else None, gb if needs[2] else None, None, None, None, None


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
        kernels: Kernels,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.kernels = kernels
        gx, u, S0, S1 = kernels.backward(_table(gy, h), _table(h), _value(g), s, _table(a))
        ctx.save_for_backward(g, h, s, a, u, S0, S1)  # type: ignore[arg-type]
        return _image(gx, h), S1, S0

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: _Context, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        X, G, B = grad_outputs
        g, h, s, a, u, S0, S1 = map(_value, ctx.saved_tensors)
        assert h is not None
        along_u, along_x, along_g = ctx.kernels.double_backward(
            _table(X, h), G, B, _table(h), g, s, _table(a), u, S0, S1
        )
        along = _image(along_u, h), _image(along_x, h), None if g is None else along_g
        return *along, None, None, None, None


def _value(t: Tensor | None) -> Tensor | None:
    """Without its history, which a compiler would ask for."""
    return None if t is None else t.detach()


def _table(t: Tensor | None, like: Tensor | None = None) -> Tensor | None:
    """A view as `(M, C)` where the channels are last in memory, which makes for plain loops."""
    t = _value(t)
    if t is None or not _channels_last(t if like is None else like):
        return t
    t = t.contiguous(memory_format=torch.channels_last)
    return t.permute(0, 2, 3, 1).reshape(-1, t.shape[1])


def _image(t: Tensor, like: Tensor) -> Tensor:
    """The way back from a table to the shape of `like`."""
    if not _channels_last(like):
        return t
    B, C, H, W = like.shape
    # A view holds on to what it is a view of, and autograd would not add to it in place.
    return t.view(B, H, W, C).permute(0, 3, 1, 2).detach()


def _channels_last(t: Tensor) -> bool:
    return t.dim() == 4 and t.is_contiguous(memory_format=torch.channels_last)
