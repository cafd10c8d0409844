"""Whether a computation draws random numbers, and which layer does: seen, not read off its type."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hypergrad.core.module_copy import called

__all__ = ["random_source"]


def random_source(
    net: nn.Module, evaluate: Callable[[], object], device: torch.device
) -> str | None:
    """Name what draws from PyTorch's generators when a network is evaluated; they are put back.

    Args:
        net: The network.
        evaluate: Evaluates it.
        device: Whose generator is watched beside that of the CPU.

    Returns:
        The innermost layer; `the loss` if it is none of them; None if nothing draws.
    """
    found: list[str] = []
    before: list[list[Tensor]] = []

    def entered(layer: nn.Module, inputs: object) -> None:
        before.append(_states(device))

    def left(layer: nn.Module, inputs: object, output: object) -> None:
        if not _same(before.pop(), _states(device)):
            found.append(called(net, layer))

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        start = _states(device)
        evaluate()
        if _same(start, _states(device)):
            return None
        hooks = [layer.register_forward_pre_hook(entered) for layer in net.modules()]
        hooks += [layer.register_forward_hook(left) for layer in net.modules()]
        try:
            evaluate()
        finally:
            for hook in hooks:
                hook.remove()
    return found[0] if found else "the loss"


def _states(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
