"""Networks of the paper's experiments, by name, and a user's own, by import path."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch
from torch import nn

from hypergrad.core.seeding import seed_of
from hypergrad.models.lenet import LeNet
from hypergrad.models.mlp import MLP
from hypergrad.models.own import check_call, check_outputs, made
from hypergrad.models.wrn import WideResNet

__all__ = ["MODELS", "LeNet", "MLP", "Network", "WideResNet", "build", "check_outputs", "resolve"]

Network = Callable[..., nn.Module]  # takes image shape, number of classes, and options
DEEPEST = 1000  # layers of this library's networks
LARGEST = 10**9  # weights
MODELS: dict[str, Network] = {"lenet": LeNet, "mlp": MLP, "wrn": WideResNet}


def resolve(name: str, beside: Path | None = None) -> Network:
    """Return the network that a name stands for.

    Args:
        name: One of `MODELS`, or `package.module:Class`.
        beside: A folder that is searched first for the module.

    Returns:
        What makes the network.

    Raises:
        ValueError: If there is no such network.
    """
    if ":" not in name:
        if name not in MODELS:
            raise ValueError(
                f"unknown model {name!r}: use one of {', '.join(sorted(MODELS))}, or "
                "package.module:Class"
            )
        return MODELS[name]
    module, _, attribute = name.partition(":")
    try:
        with _searched_first(beside):
            return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"no network {name}: {error}; run where the module can be imported"
        ) from error


def _check_size(
    name: str,
    network: Network,
    shape: tuple[int, int, int],
    classes: int,
    options: dict[str, int | float],
) -> None:
    """Refuse options that no memory is large enough for, before any of it is taken.

    Raises:
        ValueError: One line that names the option, or how many weights there would be.
    """
    said = ", ".join(f"{key}={value}" for key, value in options.items())
    if options.get("depth", 1) > DEEPEST:
        raise ValueError(f"model {name!r} with {said}: depth is at most {DEEPEST}")
    try:
        with torch.device("meta"):
            weights = sum(each.numel() for each in network(shape, classes, **options).parameters())
    except (TypeError, RuntimeError, OverflowError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"model {name!r} with {said or 'no options'}: {why}") from error
    if weights > LARGEST:
        raise ValueError(
            f"model {name!r} with {said} would have {weights:,} weights: {LARGEST:,} at most"
        )


@contextmanager
def _searched_first(folder: Path | None) -> Iterator[None]:
    """Search a folder first for what is imported; whatever else is done to the path stays."""
    if folder is None:
        yield
        return
    added = str(folder)
    sys.path.insert(0, added)
    try:
        yield
    finally:
        # By identity: the same folder may have been on the path already, or be added meanwhile.
        sys.path[:] = [entry for entry in sys.path if entry is not added]


def build(
    network: str | Network,
    shape: tuple[int, int, int],
    classes: int,
    *,
    seed: int = 0,
    options: dict[str, int | float] | None = None,
) -> nn.Module:
    """Build a network with seeded initial weights, leaving the global random state alone.

    Args:
        network: A name, as of `resolve`, or a class or function that takes an image shape, a number
            of classes, and the options.
        shape: (channels, height, width) of one image.
        classes: Number of classes.
        seed: The initial weights are a pure function of it.
        options: Further arguments of the network, such as `depth` and `width` of `wrn`.

    Returns:
        The module, float32, on the CPU.

    Raises:
        ValueError: For an unknown name, what takes other arguments or makes no module, an option
            that the network does not have, one that makes it larger than any machine, or images
            that it cannot take.
    """
    name = (
        network
        if isinstance(network, str)
        else getattr(network, "__name__", type(network).__name__)
    )
    network = resolve(network) if isinstance(network, str) else network
    options = options or {}
    check_call(name, network, options)
    if network in MODELS.values():
        _check_size(name, network, shape, classes, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("weights", seed))
        return made(name, network, shape, classes, options)
