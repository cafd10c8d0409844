"""Convolution and batch normalisation with double backward passes written by hand.

PyTorch differentiates any gradient again, but at a price: the double backward of its convolution
and of its batch normalisation goes through many small operations. Inside `Fused` those two are
replaced, with a ReLU after a normalisation taken in; everything else stays PyTorch's own, so that
any module that it can differentiate twice works. What is left of a normalisation is elementwise and
sums, bound by memory, which PyTorch's compiler can put into few sweeps.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hypergrad.curvature.batch_norm import Normalised, normalise
from hypergrad.curvature.batch_norm_kernels import PLAIN, Kernels
from hypergrad.curvature.convolution import convolution

__all__ = ["Fused"]

RELU = (F.relu, torch.relu, Tensor.relu)


class Fused(TorchFunctionMode):
    """While active, replaces the two operations in whatever is evaluated.

    Args:
        kernels: Of the normalisation.
    """

    def __init__(self, kernels: Kernels = PLAIN) -> None:
        super().__init__()
        self._kernels = kernels
        self._last: Normalised | None = None
        self._version = 0

    def __torch_function__(
        self,
        func: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> object:
        """Call `func`, or what stands for it."""
        kwargs = kwargs or {}
        if func is F.conv2d:
            return convolution(*args, **kwargs)
        if func is F.batch_norm:
            self._last = normalise(*args, **kwargs, kernels=self._kernels)
            self._version = self._last.y._version
            return self._last.y
        if func in RELU and self._last is not None and args[0] is self._last.y:
            untouched = self._last.y._version == self._version  # by an operation in place
            if untouched and not any((*args[1:], *kwargs.values())):  # in place, others may see it
                return self._last.rectified()
        if func is Tensor.view and not kwargs and not isinstance(args[1], torch.dtype):
            return args[0].reshape(*args[1:])  # a view wherever the layout allows it
        return func(*args, **kwargs)
