"""Two-dimensional convolution whose double backward pass is three kernel calls.

With `y = x * w + b`, the backward pass maps `gy` to `gx = gy *' w`, `gw = gy *" x`, `gb = sum gy`,
products that are linear in `gy` and in `w` or `x`. So its derivatives along `X`, `W` and `B` are
products again: `X * w + x * W + B` for `gy`, `gy *' W` for `x`, and `gy *" X` for `w`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.modules.utils import _pair

__all__ = ["convolution", "relays"]

# What PyTorch's compiler makes of a convolution and a sum: one kernel of oneDNN, where it is there.
ADDS = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")

Pair = int | tuple[int, int]
Settings = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]


class _Context(FunctionCtx):
    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
    settings: Settings


def convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Return what `torch.nn.functional.conv2d` returns; arguments as there."""
    if isinstance(padding, str) or input.dim() != 4:
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    settings = _pair(stride), _pair(padding), _pair(dilation), groups
    # The change of layout is an operation of its own: what is saved below must be the very input,
    # or autograd loses the way from the backward pass to it.
    if _channels_last(input):
        input = input.contiguous(memory_format=torch.channels_last)
    y = _Convolution.apply(input, weight, bias, settings)
    assert isinstance(y, Tensor)
    return y


def relays(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> bool:
    """Whether `convolution` changes the memory layout that the user's own would have."""
    if isinstance(padding, str) or input.dim() != 4 or not _channels_last(input):
        return False
    return not input.is_contiguous(memory_format=torch.channels_last)


def _channels_last(input: Tensor) -> bool:
    """Whether the faster layout is that with the channels last in memory."""
    return input.device.type == "cpu" and input.dtype == torch.float32


class _Convolution(Function):
    @staticmethod
    def forward(
        ctx: _Context, x: Tensor, w: Tensor, b: Tensor | None, settings: Settings
    ) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.settings = settings
        return F.conv2d(x, w, b, *settings)

    @staticmethod
    def backward(ctx: _Context, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        return *_ConvolutionBackward.apply(*grad_outputs, x, w, needs, ctx.settings), None


class _ConvolutionBackward(Function):
    @staticmethod
    def forward(
        ctx: _Context,
        gy: Tensor,
        x: Tensor,
        w: Tensor,
        needs: tuple[bool, bool, bool],
        settings: Settings,
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(gy, x, w)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        return _backward(gy, x, w, needs, settings)

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: _Context, *grad_outputs: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        gy, x, w = ctx.saved_tensors
        X, W, B = grad_outputs
        along_gy = None
        if X is not None:
            along_gy = F.conv2d(X, w, B, *ctx.settings)
        if W is not None:
            along_gy = _add_convolution(along_gy, x, W, None if X is not None else B, ctx.settings)
        elif along_gy is None and B is not None:
            along_gy = B[:, None, None].expand_as(gy)
        needs = ctx.needs_input_grad[1] and W is not None, X is not None, False
        along_x, along_w, _ = _backward(
            gy, x if X is None else X, w if W is None else W, needs, ctx.settings
        )
        return along_gy, along_x, along_w, None, None


def _add_convolution(
    total: Tensor | None, x: Tensor, w: Tensor, b: Tensor | None, settings: Settings
) -> Tensor:
    """Return `total + x * w + b`, in place of `total` if there is one."""
    if total is None:
        return F.conv2d(x, w, b, *settings)
    if ADDS and x.device.type == "cpu" and x.dtype == torch.float32:
        stride, padding, dilation, groups = settings
        more = padding, stride, dilation, groups, "add", 1.0, None, [], None
        return torch.ops.mkldnn._convolution_pointwise_.binary(total, x, w, b, *more)
    return total.add_(F.conv2d(x, w, b, *settings))


def _backward(
    gy: Tensor, x: Tensor, w: Tensor, needs: tuple[bool, bool, bool], settings: Settings
) -> tuple[Tensor | None, ...]:
    stride, padding, dilation, groups = settings
    sizes = [len(w)] if needs[2] else None
    return torch.ops.aten.convolution_backward(
        gy, x, w, sizes, stride, padding, dilation, False, [0, 0], groups, needs
    )
