"""Hessian products of a chain of layers, all tangent columns carried through it at once.

The R-operator (Pearlmutter, 1994), layer by layer: one ordinary pass gives every layer's input and
the gradient of its output; a sweep forward carries the derivatives of the former along all columns,
a sweep backward those of the latter. What does not depend on the column is computed once.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hypergrad.curvature.layers import (
    Conv2d,
    CrossEntropy,
    Layer,
    Linear,
    MaxPool2d,
    Pointwise,
    PooledConv2d,
    ReLU,
    Reshape,
    Slot,
    Tanh,
)

__all__ = ["check_stackable", "stacked_products"]

Loss = Callable[[Tensor], Tensor]

LAYERS: Mapping[Callable, type[Layer]] = {
    F.conv2d: Conv2d,
    F.linear: Linear,
    F.relu: ReLU,
    torch.relu: ReLU,
    Tensor.relu: ReLU,
    torch.tanh: Tanh,
    Tensor.tanh: Tanh,
    F.max_pool2d: MaxPool2d,
    torch.flatten: Reshape,
    Tensor.flatten: Reshape,
    Tensor.reshape: Reshape,
    Tensor.view: Reshape,
}


def stacked_products(loss: Loss, theta: Tensor, Z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient and the Hessian products of a loss that is a chain of layers.

    Args:
        loss: Maps `(D,)` parameters to a scalar; evaluated once.
        theta: `(D,)` point.
        Z: `(N, D)`, one tangent a row, `N > 0`.

    Returns:
        `(D,)` gradient and `(N, D)` products.

    Raises:
        ValueError: For a loss that is not a chain of known layers before a cross-entropy.
    """
    point = theta.detach().requires_grad_()
    value, layers, criterion = _watch(loss, point)
    match layers:
        case [Conv2d() as conv, MaxPool2d() as pool, *rest] if pays(conv, pool, len(Z)):
            layers = [PooledConv2d(conv, pool), *rest]
    g, *slopes = torch.autograd.grad(value, [point, *(layer.y for layer in layers)])
    HZ = torch.zeros_like(Z)
    with torch.no_grad():
        dy = layers[0].push(None, Z)
        for layer in layers[1:]:
            dy = layer.push(dy, Z)
        dgy = criterion.push(dy)
        for layer, gy in zip(reversed(layers), reversed(slopes), strict=True):
            dgy = layer.pull(gy, dgy, HZ)
    return g, HZ


def check_stackable(loss: Loss, theta: Tensor) -> None:
    """Refuse a loss that is not a chain of known layers.

    Args:
        loss: Maps `(D,)` parameters to a scalar; evaluated once.
        theta: `(D,)` point.

    Raises:
        ValueError: With the name of the first operation that does not belong.
    """
    _watch(loss, theta.detach().requires_grad_())


def _watch(loss: Loss, point: Tensor) -> tuple[Tensor, list[Layer], CrossEntropy]:
    """Evaluate a loss, and return its value, its layers, and the cross-entropy at their end."""
    with _Chain(point) as chain:
        value = loss(point)
    if chain.criterion is None or value is not chain.value:
        raise _refusal("a loss other than a cross-entropy of the network's output")
    return value, chain.layers, chain.criterion


class _Chain(TorchFunctionMode):
    """Notes the layers of a loss being evaluated, from the first that has parameters.

    Nothing is taken on trust: each layer's input must be the very output of the layer before, each
    weight a slice of the parameters or a constant.
    """

    def __init__(self, point: Tensor) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.criterion: CrossEntropy | None = None
        self.value: Tensor | None = None
        self._point = point

    def __torch_function__(
        self,
        func: Callable,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Call `func`, and note it if the loss depends on the parameters through it."""
        kwargs = dict(kwargs or {})
        if func is F.relu:
            args, kwargs = args[:1], {}  # never in place: the input is needed
        if func is F.max_pool2d and not kwargs.get("return_indices"):
            result, winners = func(*args, **kwargs | {"return_indices": True})
            args, kwargs = (args[0], winners), {}
        else:
            result = func(*args, **kwargs)
        matters = isinstance(result, Tensor) and result.requires_grad
        if self.criterion is None and (matters or func is Tensor.__setitem__):
            self._note(func, result, args, kwargs)
        return result

    def _note(
        self, func: Callable, y: object, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> None:
        x = args[0] if args else None
        if not isinstance(x, Tensor) or self._is_slice(x):
            return  # parameters being laid out; if it is anything else, the chain breaks here
        name = getattr(func, "__name__", str(func))
        head = self.layers[-1].y if self.layers else None
        if x is not head and (head is not None or x.requires_grad):
            raise _refusal(f"{name}, whose input is not the output of the layer before it")
        assert isinstance(y, Tensor) or func is Tensor.__setitem__
        if func is F.cross_entropy and head is not None:
            self.criterion, self.value = CrossEntropy(*args, **kwargs), y
        elif func not in LAYERS or not isinstance(y, Tensor) or y.dim() < 2 or len(y) != len(x):
            raise _refusal(name)
        else:
            layer = LAYERS[func](x, y, self._slot, *args[1:], **kwargs)
            last = self.layers[-1] if self.layers else None
            if isinstance(layer, MaxPool2d) and isinstance(last, Pointwise):
                # The largest stays the largest under a rising function: pool first, it is less work.
                self.layers[-1:] = [layer, type(last)(y, y, self._slot)]
            else:
                self.layers.append(layer)

    def _is_slice(self, t: Tensor) -> bool:
        own = self._point.untyped_storage().data_ptr()
        return t.requires_grad and t.untyped_storage().data_ptr() == own

    def _slot(self, weight: Tensor | None) -> Slot | None:
        """Where a weight lies in the parameters; None for a constant."""
        if weight is None or not weight.requires_grad:
            return None
        if not self._is_slice(weight) or not weight.is_contiguous():
            raise _refusal("a weight that is computed from the parameters")
        return Slot(weight.storage_offset() - self._point.storage_offset(), weight.shape)


def pays(conv: Conv2d, pool: MaxPool2d, N: int) -> bool:
    """Whether the patches that the winners see are no larger than the columns of all outputs."""
    return conv.w[0].numel() * pool.y[0, 0].numel() <= N * conv.y[0, 0].numel()


def _refusal(what: str) -> ValueError:
    return ValueError(
        f"strategy stacked cannot carry tangents through {what}: use vmap or loop "
        "(model.curvature=loop)"
    )
