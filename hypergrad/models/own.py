"""What can be wrong with a network of a user's own, each in one line, before anything is run."""

from collections.abc import Callable, Mapping
from inspect import Parameter, Signature, signature

import torch
from torch import Tensor, nn

__all__ = ["check_call", "check_outputs", "made"]

CALLED = "it is called with (image_shape, classes)"


def check_call(name: str, network: Callable[..., object], options: Mapping[str, object]) -> None:
    """Refuse what cannot be called as a network is, without calling it.

    Args:
        name: Of the network, for people.
        network: What is to make it.
        options: Further arguments, by name.

    Raises:
        ValueError: If it is no class or function, or takes other arguments.
    """
    if isinstance(network, nn.Module):
        raise ValueError(f"model {name!r} is a module that is made already: give its class")
    if not callable(network):
        raise ValueError(f"model {name!r} is a {type(network).__name__}: give a class or function")
    try:
        found = signature(network)
    except ValueError:  # of C
        return
    places = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    first = [each.name for each in found.parameters.values() if each.kind in places]
    anything = any(each.kind is Parameter.VAR_POSITIONAL for each in found.parameters.values())
    own = name.rpartition(":")[2]
    if len(first) < 2 and not anything:
        raise ValueError(
            f"model {name!r} takes ({_names(found)}), but {CALLED}: write a class that takes "
            f"these, or a function, def network(image_shape, classes): return {own}(...)"
        )
    known = first[2:] + [e.name for e in found.parameters.values() if e.kind is e.KEYWORD_ONLY]
    free = any(each.kind is Parameter.VAR_KEYWORD for each in found.parameters.values())
    if (unknown := sorted(set(options) - set(known))) and not free:
        raise ValueError(
            f"model {name!r} has no option {', '.join(unknown)}: "
            f"it takes {', '.join(known) or 'none'}"
        )
    try:
        found.bind((1, 1, 1), 2, **options)
    except TypeError as error:
        raise ValueError(
            f"model {name!r}: {error}, beyond (image_shape, classes): give it as "
            "model.options.NAME=VALUE, or a default"
        ) from error


def made(
    name: str,
    network: Callable[..., object],
    shape: tuple[int, int, int],
    classes: int,
    options: Mapping[str, object],
) -> nn.Module:
    """Return the module that a network makes.

    Raises:
        ValueError: If it raises an error, or makes something else.
    """
    try:
        module = network(shape, classes, **options)
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        if "memory" in str(error):
            raise
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(
            f"model {name!r} cannot be made for images of {_by(shape)} and {classes} classes "
            f"({what})"
        ) from error
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"model {name!r} gives a {type(module).__name__}, not a torch.nn.Module: {CALLED}"
        )
    return module


def check_outputs(name: str, module: nn.Module, images: Tensor, classes: int) -> None:
    """Refuse a network that does not take the images, or gives other than a number a class.

    The module is left as it is, and so is the random state.

    Args:
        name: Of the network, for people.
        module: The network.
        images: `(n, c, h, w)`, two are enough.
        classes: Their number.

    Raises:
        ValueError: If it cannot take them, or gives something else.
    """
    state = {key: buffer.clone() for key, buffer in module.named_buffers()}
    devices = [images.device] if images.is_cuda else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            found = torch.func.functional_call(module, state, (images,))
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
        if "memory" in str(error):
            raise
        raise ValueError(
            f"model {name!r} does not take images of {_by(images.shape[1:])} "
            f"({type(error).__name__}: {' '.join(str(error).split())})"
        ) from error
    if not isinstance(found, Tensor):
        raise ValueError(
            f"model {name!r} gives a {type(found).__name__}: give a tensor of (images, classes)"
        )
    if found.shape != (len(images), classes):
        raise ValueError(
            f"model {name!r} gives {_by(found.shape[1:]) or 'no'} outputs an image for {classes} "
            "classes: its second argument is the number of classes"
        )


def _names(found: Signature) -> str:
    """Arguments by name, without types and defaults."""
    stars = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}
    return ", ".join(stars.get(e.kind, "") + e.name for e in found.parameters.values())


def _by(shape: "tuple[int, ...] | torch.Size") -> str:
    return "x".join(map(str, shape))
