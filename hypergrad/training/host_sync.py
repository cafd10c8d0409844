"""What a step must not do if it is to be recorded: wait for the device, or bring it anything.

A graph of kernels replays what the device did. Whatever went through the host on the way, a number
read back or a tensor made of a list, would be missing from it, so CUDA refuses to record it.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["HostTraffic"]

aten = torch.ops.aten
# Their results, or the shapes of their results, are numbers that the host must know.
READS = {
    aten._local_scalar_dense,
    aten._unique2,
    aten.bincount,
    aten.equal,
    aten.is_nonzero,
    aten.masked_select,
    aten.nonzero,
    aten.repeat_interleave,
    aten.unique_consecutive,
    aten.unique_dim,
}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
MASKS = (torch.bool, torch.uint8)
COPIES = {aten._to_copy, aten.copy_, aten.copy}


class HostTraffic(TorchDispatchMode):
    """While active, notes every operation through which host and device wait for each other.

    Args:
        device: Where the step computes. On a CPU, which is both, what would be such traffic
            elsewhere is noted, as far as it can be told.

    Attributes:
        found: What was noted, in order: `aten.nonzero`, for example.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.found: list[str] = []
        self._between = {"cpu", device.type} if device.type != "cpu" else None

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> object:
        """Call `func`, and note it if it is one of those."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._is_traffic(func.overloadpacket, args, [*_tensors([args, kwargs])], result):
            self.found.append(str(func.overloadpacket))
        return result

    def _is_traffic(
        self, packet: Callable, args: tuple, given: list[Tensor], result: object
    ) -> bool:
        if packet in READS:
            return True
        if packet is aten.lift_fresh:  # made of numbers; a single one on the host remains a number
            return given[0].dim() > 0 or given[0].device.type != "cpu"
        if packet in INDEXING and any(t.dtype in MASKS for t in _tensors(args[1])):
            return True
        if packet not in COPIES:  # where a single number on the host is as good as an argument
            given = [t for t in given if t.dim() > 0 or t.device.type != "cpu"]
        seen = {t.device.type for t in [*given, *_tensors(result)]}
        return self._between is not None and self._between <= seen


def _tensors(tree: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
