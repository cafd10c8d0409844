"""Convolution and batch normalisation with double backward passes written by hand.

PyTorch differentiates any gradient again, but at a price: the double backward of its convolution
and of its batch normalisation goes through many small operations. Inside `Fused` those two are
replaced, with a ReLU after a normalisation taken in; everything else stays PyTorch's own, so that
any module that it can differentiate twice works, unless it can tell how its activations lie in
memory (see `layout`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hypergrad.curvature.batch_norm import Normalised, normalise
from hypergrad.curvature.convolution import convolution, relays
from hypergrad.curvature.layout import DATA, LayoutWatch

__all__ = ["Fused"]

RELU = (F.relu, torch.relu, Tensor.relu)


class Fused(TorchFunctionMode):
    """While active, replaces the two operations in whatever is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self._last: Normalised | None = None
        self._version = 0
        self._layout = LayoutWatch()

    def __exit__(self, *error: object) -> None:
        """Let go of what was noted of the evaluation."""
        self._layout.forget()
        self._last = None
        super().__exit__(*error)

    def __torch_function__(
        self,
        func: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> object:
        """Call `func`, or what stands for it."""
        kwargs = kwargs or {}
        if func == DATA:
            self._last = None  # may be changed without a trace
        return self._layout.call(func, args, kwargs, self._instead(func, args, kwargs))

    def _instead(self, func: Callable, args: tuple, kwargs: dict) -> Callable:
        """What is called for `func`, with the same arguments."""
        if func is F.conv2d:
            return self._convolved
        if func is F.batch_norm:
            return self._normalised
        if func in RELU and self._last is not None and args and args[0] is self._last.y:
            untouched = self._last.y._version == self._version  # by an operation in place
            if untouched and not any((*args[1:], *kwargs.values())):  # in place, others may see it
                return self._rectified
        if func is Tensor.view and not isinstance(args[-1], torch.dtype) and "dtype" not in kwargs:
            return _view
        return _view_as if func is Tensor.view_as else func

    def _convolved(self, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        if relays(*args, **kwargs):
            self._layout.active = True
        return convolution(*args, **kwargs)

    def _normalised(self, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        self._last = normalise(*args, **kwargs)
        self._version = self._last.y._version
        return self._last.y

    def _rectified(self, *args: object, **kwargs: object) -> Tensor:
        assert self._last is not None
        return self._last.rectified()


def _view(t: Tensor, *shape: Any, size: Any = ()) -> Tensor:  # noqa: ANN401
    return t.reshape(*(shape or (size,)))  # a view wherever the layout allows it


def _view_as(t: Tensor, other: Tensor) -> Tensor:
    return t.reshape(other.shape)
