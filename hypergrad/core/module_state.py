"""What a module keeps outside its parameters and buffers: counters, lists, plain tensors."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hypergrad.core.module_copy import called

__all__ = ["changed_attribute", "first_difference", "snapshot"]

# PyTorch's own bookkeeping, and what is set from outside at every call.
OWN = frozenset(vars(nn.Module())) | {"_flat_weights", "_flat_weight_refs", "track_running_stats"}
DEPTH = 4

State = dict[tuple[int, str], object]


def snapshot(net: nn.Module) -> State:
    """Return copies of what the layers of a network keep in plain attributes, where they compare.

    Numbers, text, tensors, generators, and nests of those; other objects by their attributes.
    """
    return {
        (place, name): _copied(value, DEPTH)
        for place, layer in enumerate(net.modules())
        for name, value in vars(layer).items()
        if name not in OWN
    }


def changed_attribute(net: nn.Module, before: State, after: State) -> str | None:
    """Name a layer and its attribute that differ between two snapshots; None if none does."""
    layers = list(net.modules())
    for key in [*before, *(key for key in after if key not in before)]:
        if not _equal(before.get(key, _MISSING), after.get(key, _MISSING)):
            place, name = key
            return f"{name!r} of {called(net, layers[place])}"
    return None


def first_difference(
    net: nn.Module,
    one: Callable[[], object],
    other: Callable[[], object],
    other_net: nn.Module | None = None,
) -> str | None:
    """Name the first layer whose output differs between two evaluations.

    Args:
        net: A network.
        one: Evaluates it.
        other: Evaluates it again, or `other_net`.
        other_net: Another copy of it.

    Returns:
        What to call the layer; None if all outputs are equal.
    """
    outputs = zip(_outputs(net, one), _outputs(other_net or net, other), strict=False)
    for (layer, a), (_, b) in outputs:
        if not _equal(a, b):
            return called(net, layer)
    return None


def _outputs(net: nn.Module, evaluate: Callable[[], object]) -> list[tuple[nn.Module, object]]:
    """The layers of a network and what they return, in the order in which they do."""
    found: list[tuple[nn.Module, object]] = []

    def note(layer: nn.Module, inputs: object, output: object) -> None:
        found.append((layer, _copied(output, DEPTH)))

    hooks = [layer.register_forward_hook(note) for layer in net.modules()]
    try:
        evaluate()
    finally:
        for hook in hooks:
            hook.remove()
    return found


_MISSING = object()


def _copied(value: object, depth: int) -> object:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, bool | int | float | complex | str | bytes | type(None)):
        return value
    if depth == 0 or isinstance(value, nn.Module):
        return None
    if isinstance(value, dict):
        return {str(key): _copied(own, depth - 1) for key, own in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        kind = "set" if isinstance(value, set | frozenset) else "list"
        return [kind, *(_copied(own, depth - 1) for own in value)]
    if hasattr(value, "__dict__") and not callable(value):
        return {name: _copied(own, depth - 1) for name, own in vars(value).items()}
    return None


def _equal(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        same = one.shape == other.shape and one.dtype == other.dtype
        return same and bool(((one == other) | (one != one) & (other != other)).all())
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return False
    return one is other or one == other or (one != one and other != other)
