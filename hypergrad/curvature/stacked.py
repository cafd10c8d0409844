"""Hessian products of a chain of layers, all tangent columns carried through it at once.

The R-operator (Pearlmutter, 1994), layer by layer: one ordinary pass gives every layer's input; a
sweep forward carries their derivatives along all columns; a sweep backward carries the gradient,
and its derivatives beside it. What does not depend on the column is computed once.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from hypergrad.core.limits import is_out_of_memory
from hypergrad.curvature.affine import Conv2d, Linear, PooledConv2d
from hypergrad.curvature.layers import (
    CrossEntropy,
    Layer,
    MaxPool2d,
    Pointwise,
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
        case [Conv2d() as conv, MaxPool2d() as pool, *rest] if PooledConv2d.pays(
            conv, pool, len(Z)
        ):
            layers = [PooledConv2d(conv, pool), *rest]
    gy = torch.autograd.grad(value, layers[-1].y)[0][:, None]
    G = Z.new_zeros(1 + len(Z), Z.shape[1])
    with torch.no_grad():
        dy = layers[0].push(None, Z)
        for layer in layers[1:]:
            dy = layer.push(dy, Z)
        gy = torch.cat([gy, criterion.push(dy)], dim=1)
        for layer in reversed(layers):
            gy = layer.pull(gy, G)
    return G[0], G[1:]


def check_stackable(loss: Loss, theta: Tensor) -> None:
    """Refuse a loss that is not a chain of known layers.

    Args:
        loss: Maps `(D,)` parameters to a scalar; evaluated once.
        theta: `(D,)` point.

    Raises:
        ValueError: With the name of the first operation that does not belong.
    """
    try:
        _watch(loss, theta.detach().requires_grad_())
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise _refusal(f"what fails with {str(error).splitlines()[0]!r}") from error


def _watch(loss: Loss, point: Tensor) -> tuple[Tensor, list[Layer], CrossEntropy]:
    """Evaluate a loss, and return its value, its layers, and the cross-entropy at their end."""
    with _Chain(point) as chain:
        value = loss(point)
    if chain.criterion is None or value is not chain.value:
        raise _refusal("a loss other than a cross-entropy of the network's output")
    return value, chain.layers, chain.criterion


class _Chain(TorchFunctionMode):
    """Notes the layers of a loss being evaluated, from the first that has parameters.

    Nothing is assumed: each layer's input must be the very output of the layer before, each
    weight a slice of the parameters or a constant.
    """

    def __init__(self, point: Tensor) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.criterion: CrossEntropy | None = None
        self.value: Tensor | None = None
        self._point = point
        # Not a method: layers keep it, and a circle of references would keep all activations of
        # a step until Python looks for circles, which is rarely.
        self._slot = partial(_slot, point)

    def __torch_function__(
        self,
        func: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> object:
        """Call `func`, and note it if the loss depends on the parameters through it."""
        kwargs = dict(kwargs or {})
        x = args[0] if args else None
        if func is F.relu:
            args, kwargs = args[:1], {}  # never in place: its input is needed
        images = isinstance(x, Tensor) and x.requires_grad and x.dim() == 4
        if func is F.max_pool2d and images and not kwargs.get("return_indices"):
            result, winners = _max_pool2d(*args, **kwargs)
            args, kwargs = (x, winners), {}
        else:
            result = func(*args, **kwargs)
        matters = isinstance(result, Tensor) and result.requires_grad
        # What begins at a slice of the parameters lays them out; otherwise the chain breaks there.
        begins = not isinstance(x, Tensor) or _is_slice(self._point, x)
        if self.criterion is None and not begins and (matters or func is Tensor.__setitem__):
            self._note(func, result, args, kwargs)
        return result

    def _note(self, func: Callable, y: Tensor, args: tuple, kwargs: dict) -> None:
        x, last = args[0], self.layers[-1] if self.layers else None
        kind, name = LAYERS.get(func), resolve_name(func) or str(func)
        if kind is None and func is not F.cross_entropy:
            raise _refusal(name)
        if x.requires_grad if last is None else x is not last.y:
            raise _refusal(f"{name}, whose input is not the output of the layer before it")
        if kind is None:
            self.criterion, self.value = CrossEntropy(*args, **kwargs), y
            if not self.criterion.plain:
                raise _refusal("a cross-entropy with class weights, probabilities, or no mean")
            return
        if kind.dims not in (None, x.dim()) or y.dim() < 2 or len(y) != len(x):
            raise _refusal(f"{name} of {tuple(x.shape)}")
        if any(isinstance(given, str) for given in (*args, *kwargs.values())):
            raise _refusal(f"{name} with its padding in words")
        layer = kind(x, y, self._slot, *args[1:], **kwargs)
        if isinstance(layer, MaxPool2d) and isinstance(last, Pointwise):
            # Under a rising function the largest stays the largest: pool first, it is less work.
            self.layers[-1:] = [layer, type(last)(y, y, self._slot)]
        else:
            self.layers.append(layer)


def _is_slice(point: Tensor, t: Tensor) -> bool:
    return t.requires_grad and t.untyped_storage().data_ptr() == point.untyped_storage().data_ptr()


def _slot(point: Tensor, weight: Tensor | None) -> Slot | None:
    """Where a weight lies in the parameters; None for a constant."""
    if weight is None or not weight.requires_grad:
        return None
    if not _is_slice(point, weight) or not weight.is_contiguous():
        raise _refusal("a weight that is computed from the parameters")
    return Slot(int(weight.storage_offset() - point.storage_offset()), weight.shape)


def _max_pool2d(
    x: Tensor, *settings: object, return_indices: bool = False, **named: object
) -> tuple[Tensor, Tensor]:
    """Return pooled images, and the pixels they come from; on a CPU, twice as fast as PyTorch's."""
    still = x.detach().contiguous(memory_format=torch.channels_last)
    winners = F.max_pool2d(still, *settings, return_indices=True, **named)[1].contiguous()  # type: ignore[arg-type]
    return x.flatten(2).gather(2, winners.flatten(2)).unflatten(2, winners.shape[2:]), winners


def _refusal(what: str) -> ValueError:
    return ValueError(
        f"strategy stacked cannot carry tangents through {what}: use strategy='fused'"
    )
