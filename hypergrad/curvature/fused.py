"""Convolution and batch normalisation with double backward passes written by hand.

PyTorch differentiates any gradient again, but at a price: the double backward of its convolution
and of its batch normalisation goes through many small operations. Inside `Fused` those two are
replaced, with a ReLU after a normalisation taken in; everything else stays PyTorch's own, so that
any module that it can differentiate twice works. What is left of a normalisation is elementwise and
sums, bound by memory, which PyTorch's compiler can put into few sweeps.

Convolutions lay their results out with the channels last, where that is faster. What is a view of a
contiguous result, `x.view(n, -1)` say, may then be a copy; where either is changed in place, the
other one would not notice. Such a network is refused.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from hypergrad.curvature.batch_norm import Normalised, normalise
from hypergrad.curvature.batch_norm_kernels import PLAIN, Kernels
from hypergrad.curvature.convolution import convolution

__all__ = ["Fused", "LayoutError"]

RELU = (F.relu, torch.relu, Tensor.relu)
# What returns a view or a copy, as the layout allows.
RESHAPING = frozenset(
    [Tensor.view, Tensor.view_as, Tensor.reshape, Tensor.reshape_as, Tensor.flatten, Tensor.ravel]
    + [Tensor.contiguous, Tensor.unflatten, torch.reshape, torch.flatten, torch.ravel]
)


class LayoutError(ValueError):
    """A network changes in place what another layout would share."""


class _Copied(NamedTuple):
    """A copy that would be a view of a contiguous tensor, and the versions of both."""

    name: str
    source: Tensor
    copy: Tensor
    versions: tuple[int, int]

    def is_changed(self) -> bool:
        return self.versions != (self.source._version, self.copy._version)


class Fused(TorchFunctionMode):
    """While active, replaces the two operations in whatever is evaluated.

    Args:
        kernels: Of the normalisation.

    Raises:
        LayoutError: At its end, for an operation in place that its layout would have lost.
    """

    def __init__(self, kernels: Kernels = PLAIN) -> None:
        super().__init__()
        self._kernels = kernels
        self._last: Normalised | None = None
        self._version = 0
        self._copied: list[_Copied] = []

    def __exit__(self, *raised: object) -> None:
        """Refuse what was lost on the way."""
        super().__exit__(*raised)  # type: ignore[arg-type]
        copied, self._copied = self._copied, []
        changed = next((each for each in copied if each.is_changed()), None)
        if changed is not None and raised[0] is None:
            raise LayoutError(
                f"the network changes in place what it has from {changed.name}(), which would not "
                "come through where strategy fused lays channels last: use strategy='loop'"
            )

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
            result = args[0].reshape(*args[1:])  # a view wherever the layout allows it
        else:
            result = func(*args, **kwargs)
        if func in RESHAPING and not args[0].is_contiguous():
            self._note(resolve_name(func) or str(func), args[0], result)
        return result

    def _note(self, name: str, source: Tensor, result: object) -> None:
        assert isinstance(result, Tensor)
        if result.untyped_storage().data_ptr() != source.untyped_storage().data_ptr():
            versions = source._version, result._version
            self._copied.append(_Copied(name, source, result, versions))
