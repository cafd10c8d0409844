"""Which layer a wrong second derivative comes from: each is tried alone, the innermost first."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hypergrad.core.batches import map_tensors, tensors_in
from hypergrad.core.module_copy import called
from hypergrad.differentiation.gradient_differences import (
    compare_with_differences,
    probe,
    product_by,
)

__all__ = ["layer_at_fault"]


class _Call(NamedTuple):
    layer: nn.Module
    inputs: tuple
    named: dict


def layer_at_fault(net: nn.Module, evaluate: Callable[[], object], strategy: str) -> str | None:
    """Name the innermost layer whose own product is wrong or cannot be had.

    Args:
        net: A network in float64.
        evaluate: Evaluates its loss.
        strategy: How products are computed.

    Returns:
        What to call it; None if each is right by itself.
    """
    for layer, inputs, named in _calls(net, evaluate):
        try:
            wrong = _is_wrong(layer, inputs, named, strategy)
        except (RuntimeError, ValueError):
            wrong = True
        if wrong:
            return called(net, layer)
    return None


def _calls(net: nn.Module, evaluate: Callable[[], object]) -> Iterator[_Call]:
    """The calls of all layers, in the order in which they return: the innermost first."""
    found: list[_Call] = []

    def note(layer: nn.Module, inputs: tuple, named: dict, output: object) -> None:
        def kept(nest: object) -> object:
            return map_tensors(lambda x: x.detach().clone(), nest)  # type: ignore[arg-type]

        if all(layer is not call.layer for call in found):
            found.append(_Call(layer, kept(inputs), kept(named)))  # type: ignore[arg-type]

    hooks = [layer.register_forward_hook(note, with_kwargs=True) for layer in net.modules()]
    try:
        evaluate()
    finally:
        for hook in hooks:
            hook.remove()
    yield from found


def _is_wrong(layer: nn.Module, inputs: tuple, named: dict, strategy: str) -> bool:
    """Whether the product of a random combination of a layer's outputs is wrong."""
    tables = [each._parameters for each in layer.modules()]
    places = [
        (table, name, tensor.detach())
        for table in tables
        for name, tensor in table.items()
        if tensor is not None and tensor.requires_grad
    ]
    floating = [x for x in tensors_in((inputs, named)) if x.is_floating_point()]
    tensors = [tensor for _, _, tensor in places] + floating
    if not tensors:
        return False
    point = torch.cat([tensor.reshape(-1) for tensor in tensors]).double()
    before = [table[name] for table, name, _ in places]

    def loss(theta: Tensor) -> Tensor:
        flat = theta.split([tensor.numel() for tensor in tensors])
        views = [own.view(tensor.shape) for own, tensor in zip(flat, tensors, strict=True)]
        for (table, name, _), view in zip(places, views, strict=False):
            table[name] = view  # type: ignore[assignment]
        rest = iter(views[len(places) :])

        def replaced(x: Tensor) -> Tensor:
            return next(rest) if x.is_floating_point() else x

        output = layer(*map_tensors(replaced, inputs), **map_tensors(replaced, named))  # type: ignore
        total = theta.new_zeros(())
        for number, y in enumerate(tensors_in(output)):
            if y.is_floating_point():
                generator = torch.Generator().manual_seed(number)
                weights = torch.randn(y.shape, generator=generator, dtype=torch.float64)
                total = total + (y * weights.to(y)).sum()
        return total

    try:
        Z = probe(point)
        HZ = product_by(loss, point, Z, strategy)
        return compare_with_differences(loss, point, HZ, Z).is_wrong
    finally:
        for (table, name, _), tensor in zip(places, before, strict=True):
            table[name] = tensor
