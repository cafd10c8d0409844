"""Convolutions and poolings of several networks at once, laid out for a CPU.

`vmap` makes one convolution in groups of `K` convolutions with weights of their own, in the layout
that PyTorch's CPU kernels are slowest in. Here the members of an ensemble lie beside each other as
channels, channels last: what the kernels of grouped convolution and pooling are fast in, with no
copy from layer to layer. Images that all members share are unfolded once, and one product with all
members' filters serves them all.

All of it is made of differentiable operations: the derivatives are PyTorch's.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode

from hypergrad.core.functional_model import FlatModel

__all__ = ["BatchedLayers", "batched_layers"]

Pair = int | tuple[int, int]
Dim = int | None


def batched_layers(model: FlatModel, device: torch.device) -> AbstractContextManager:
    """Return in what context `vmap` should evaluate a network with weights of each member's own.

    Args:
        model: The network. Batch normalisation keeps PyTorch's layout: channels last, its sums over
            a batch are crude in float32.
        device: Where it computes; a GPU has kernels of its own for groups.

    Returns:
        The context: under it, layers are those of `BatchedLayers`, or PyTorch's own.
    """
    normalises = any(isinstance(layer, _BatchNorm) for layer in model.net.modules())
    return nullcontext() if device.type != "cpu" or normalises else BatchedLayers()


class BatchedLayers(TorchFunctionMode):
    """While active, under `vmap`, convolutions and max-poolings of images are those of this module.

    What it does not know is left to `vmap`: padding in words, the indices of a pooling.
    """

    def __torch_function__(
        self,
        func: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> object:
        """Call `func`, or what stands for it here."""
        kwargs = kwargs or {}
        layer = _LAYERS.get(func)
        given = None if layer is None else layer(*args, **kwargs)
        return func(*args, **kwargs) if given is None else given


def _convolved(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor | None:
    """The arguments are those of `conv2d`."""
    if input.dim() != 4 or isinstance(padding, str):
        return None
    settings = _pair(stride), _pair(padding), _pair(dilation), groups
    return _Conv2d.apply(input, weight, bias, *settings)


def _pooled(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | None:
    """The arguments are those of `max_pool2d`; with indices it is another function."""
    if input.dim() != 4:
        return None
    return _MaxPool2d.apply(input, kernel_size, stride, padding, dilation, ceil_mode)


_LAYERS: dict[Callable, Callable[..., Tensor | None]] = {
    torch.conv2d: _convolved,
    F.max_pool2d: _pooled,
    torch.max_pool2d: _pooled,
}


class _Batched(Function):
    """An operation with a rule for `vmap`.

    It is differentiated outside of `vmap`, through what the rule does; where nothing is batched,
    nothing depends on the parameters, and there is nothing to differentiate.
    """

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:  # noqa: ANN401
        """Keep nothing."""


class _Conv2d(_Batched):
    @staticmethod
    def forward(x: Tensor, w: Tensor, b: Tensor | None, *settings: Any) -> Tensor:  # noqa: ANN401
        return F.conv2d(x, w, b, *settings)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Dim, ...], *args: Any) -> tuple[Tensor, int]:  # noqa: ANN401
        x, w, b, *settings = args
        K, (stride, padding, dilation, groups) = info.batch_size, settings
        in_x, in_w, in_b, *_ = in_dims
        rows = _stacked(w, in_w, K).flatten(0, 1)
        biases = None if b is None else _stacked(b, in_b, K).flatten()
        if in_x is None and groups == 1:
            y = _of_shared(x, rows, biases, stride, padding, dilation)
        else:
            beside = _beside(x, in_x, K)
            y = F.conv2d(beside, rows, biases, stride, padding, dilation, K * groups)
        return y.unflatten(1, (K, -1)), 1


class _MaxPool2d(_Batched):
    @staticmethod
    def forward(x: Tensor, *settings: Any) -> Tensor:  # noqa: ANN401
        return F.max_pool2d(x, *settings)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Dim, ...], *args: Any) -> tuple[Tensor, int]:  # noqa: ANN401
        x, *settings = args
        y = F.max_pool2d(_beside(x, in_dims[0], info.batch_size), *settings)
        return y.unflatten(1, (info.batch_size, -1)), 1


def _stacked(t: Tensor, dim: Dim, K: int) -> Tensor:
    """`(K, ...)`, whether the members have their own or share one."""
    return t.expand(K, *t.shape) if dim is None else t.movedim(dim, 0)


def _beside(x: Tensor, dim: Dim, K: int) -> Tensor:
    """`(B, K C, H, W)`, channels last: no copy of what a layer of this module gave."""
    own = x[:, None].expand(-1, K, -1, -1, -1) if dim is None else x.movedim(dim, 1)
    return own.flatten(1, 2).contiguous(memory_format=torch.channels_last)


def _of_shared(
    x: Tensor,
    rows: Tensor,
    biases: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """Convolve `(B, C, H, W)` images with `(O, C, k, k)` filters: `(B, O, H', W')`, channels last.

    `O` counts the filters of all members; the images are unfolded once for all of them.
    """
    above, beside = padding
    seen = F.pad(x, (beside, beside, above, above)) if above or beside else x
    for side in (0, 1):
        span = dilation[side] * (rows.shape[2 + side] - 1) + 1
        seen = seen.unfold(2 + side, span, stride[side])[..., :: dilation[side]]
    B, _, height, width, *_ = seen.shape
    table = seen.permute(0, 2, 3, 1, 4, 5).reshape(B * height * width, -1)
    filters = rows.flatten(1).T
    y = table @ filters if biases is None else torch.addmm(biases, table, filters)
    return y.view(B, height, width, -1).permute(0, 3, 1, 2)
