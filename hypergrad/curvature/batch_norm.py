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

from hypergrad.curvature.batch_norm_kernels import backward, double_backward, forward
from hypergrad.curvature.batch_norm_statistics import standardise

__all__ = ["Normalised", "normalise"]


class _Context(FunctionCtx):
    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]


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
    with torch.no_grad():
        h, s = standardise(input, running_mean, running_var, momentum, eps)
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
        y = _image(forward(_table(h), g, b, rectified), h)
        # What is saved of `x` is `x` itself, through which the backward pass depends on it.
        ctx.save_for_backward(x, g, h, s, y if rectified else None)  # type: ignore[arg-type]
        return y

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        found = _NormalisationBackward.apply(*grad_outputs, *ctx.saved_tensors)
        gx, gg, gb = found
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
        gx, u, S0, S1 = backward(_table(gy, h), _table(h), g, s, _table_if_any(a))
        ctx.save_for_backward(g, h, s, a, u, S0, S1)  # type: ignore[arg-type]
        return _image(gx, h), S1, S0

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: _Context, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        X, G, B = grad_outputs
        g, h, s, a, u, S0, S1 = ctx.saved_tensors
        along_u, along_x, along_g = double_backward(
            _table(X, h), G, B, _table(h), g, s, _table_if_any(a), u, S0, S1
        )
        along = _image(along_u, h), _image(along_x, h), None if g is None else along_g
        return *along, None, None, None


def _table(t: Tensor, like: Tensor | None = None) -> Tensor:
    """A view as `(M, C)` where the channels are last in memory, which makes for plain loops."""
    t = t.detach()  # a view holds on to what it is a view of, and to its history
    if not _channels_last(t if like is None else like):
        return t
    t = t.contiguous(memory_format=torch.channels_last)
    return t.permute(0, 2, 3, 1).reshape(-1, t.shape[1])


def _table_if_any(t: Tensor | None) -> Tensor | None:
    return None if t is None else _table(t)


def _image(t: Tensor, like: Tensor) -> Tensor:
    """The way back from a table to the shape of `like`."""
    if not _channels_last(like):
        return t
    B, C, H, W = like.shape
    # A view holds on to what it is a view of, and autograd would not add to it in place.
    return t.view(B, H, W, C).permute(0, 3, 1, 2).detach()


def _channels_last(t: Tensor) -> bool:
    return t.dim() == 4 and t.is_contiguous(memory_format=torch.channels_last)
