"""A private copy of a user's module, whose parameters and buffers are other tensors at every call.

The tensors stay in place when a call returns: a module may run code later, in the backward pass
(`torch.utils.checkpoint`, hooks, closures), and that must see the weights that the call saw.
"""

import copy
from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

__all__ = ["Mode", "ModuleCopy", "called", "unwrapped"]

# `pure` is `training` that updates no running statistics; `validation` is `evaluation` in which
# normalisation uses the statistics of the batch.
Mode = Literal["training", "pure", "validation", "evaluation"]

Place = tuple[dict[str, Tensor | None], str]  # a module's own table, and the name in it


class ModuleCopy:
    """A copy of a module, on which tensors are installed under the names of the original.

    Args:
        module: Left as it is. Wrappers of compilation and data parallelism are taken off the copy.

    Attributes:
        net: The copy.
        parameters: The original's trainable parameters, by name; those that are tied, once.

    Raises:
        ValueError: For a module that cannot be copied, or whose parameters have no shape yet,
            several types or devices, or hooks.
    """

    def __init__(self, module: nn.Module) -> None:
        _check_initialized(module)
        copied = _copied(module)
        trainable = {n: p for n, p in copied.named_parameters() if p.requires_grad}
        names = {id(p): n for n, p in copied.named_parameters()}
        names |= {id(b): n for n, b in copied.named_buffers()}
        self._places: dict[str, list[Place]] = {name: [] for name in names.values()}
        for layer in copied.modules():
            for table in (layer._parameters, layer._buffers):
                for own, tensor in table.items():
                    if tensor is not None:
                        self._places[names[id(tensor)]].append((table, own))  # type: ignore[arg-type]
        self._buffers = [name for name, _ in copied.named_buffers()]
        self.net = _without_wrappers(copied)
        self.parameters = {n: p for n, p in module.named_parameters() if n in trainable}
        _check_types(self.parameters)
        _check_hooks(self.parameters)
        self._layers = list(self.net.modules())
        self._trained = [layer.training for layer in self._layers]
        self._tracking = [
            isinstance(layer, _BatchNorm) and layer.track_running_stats for layer in self._layers
        ]
        self._mode = ""

    @property
    def has_recurrence_on_gpu(self) -> bool:
        """Whether there are recurrent layers on CUDA."""
        return any(isinstance(layer, nn.RNNBase) for layer in self._layers) and any(
            parameter.is_cuda for parameter in self.parameters.values()
        )

    def install(self, tensors: Mapping[str, Tensor]) -> None:
        """Put tensors in the places of parameters and buffers, until others are put there."""
        for name, tensor in tensors.items():
            for table, own in self._places[name]:
                table[own] = tensor

    def collect(self, buffers: dict[str, Tensor]) -> None:
        """Take the buffers back that a call has assigned anew, rather than changed in place."""
        for name in self._buffers:
            table, own = self._places[name][0]
            now = table[own]
            if name in buffers and now is not None and now is not buffers[name]:
                buffers[name] = now.detach()

    def set_mode(self, mode: Mode) -> None:
        """Set every layer to a mode; in training each is as the user left it.

        Args:
            mode: Layers that the user put into evaluation never leave it.
        """
        if mode == self._mode:
            return
        trains = mode in ("training", "pure")
        for layer, trained, tracks in zip(self._layers, self._trained, self._tracking, strict=True):
            normalises = isinstance(layer, _BatchNorm) and trained
            layer.training = trained if trains else normalises and mode == "validation"
            if normalises and tracks:
                # Without tracking it neither reads nor writes its buffers in training.
                keeps = mode in ("training", "evaluation")
                layer.track_running_stats = keeps  # type: ignore[assignment]
        self._mode = mode


def called(net: nn.Module, layer: nn.Module) -> str:
    """Return what to call a layer of a network: its place, and its class.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> called(net, net[1])
    "'1' (ReLU)"
    """
    name = next((name for name, each in net.named_modules() if each is layer), "")
    kind = type(layer).__name__
    return f"{name!r} ({kind})" if name else kind


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside wrappers of compilation and of data parallelism."""
    while (inside := _inside(module)) is not None:
        module = inside
    return module


def _inside(module: nn.Module) -> nn.Module | None:
    compiled = getattr(module, "_orig_mod", None)
    if isinstance(compiled, nn.Module):
        return compiled
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return module.module
    return None


def _without_wrappers(module: nn.Module) -> nn.Module:
    module = unwrapped(module)
    for layer in list(module.modules()):
        layer._compiled_call_impl = None  # type: ignore[assignment]
        for name, child in layer.named_children():
            if _inside(child) is not None:
                layer._modules[name] = unwrapped(child)
    return module


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except RuntimeError as error:
        for layer in module.modules():
            for name, value in vars(layer).items():
                if isinstance(value, Tensor) and not value.is_leaf:
                    raise ValueError(
                        f"{called(module, layer)} keeps {name!r}, a tensor that it has computed, "
                        "as an attribute, and cannot be copied: compute it in forward(); for "
                        "torch.nn.utils.weight_norm or spectral_norm use those of "
                        "torch.nn.utils.parametrizations"
                    ) from error
        raise ValueError(f"{type(module).__name__} cannot be copied: {error}") from error


def _check_initialized(module: nn.Module) -> None:
    for layer in module.modules():
        own = (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
        if any(is_lazy(tensor) for tensor in own):
            raise ValueError(
                f"{called(module, layer)} does not know its shapes yet: call the module on a batch "
                "once"
            )


def _check_hooks(parameters: Mapping[str, nn.Parameter]) -> None:
    for name, parameter in parameters.items():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise ValueError(
                f"parameter {name} has a hook of its own on its gradient, which other weights put "
                "in its place would not have: change the gradient in the loss, or by a transform"
            )


def _check_types(parameters: Mapping[str, nn.Parameter]) -> None:
    for what in ("dtype", "device"):
        kinds: dict[object, str] = {}
        for name, parameter in parameters.items():
            kinds.setdefault(getattr(parameter, what), name)
        if len(kinds) > 1:
            found = ", ".join(f"{name} is {kind}" for kind, name in kinds.items())
            raise ValueError(f"parameters of more than one {what} ({found}): use one for all")
    for name, parameter in parameters.items():
        if not parameter.is_floating_point() or parameter.is_complex():
            raise ValueError(f"parameter {name} is {parameter.dtype}: use float32 or float64")
