"""Networks of the paper's experiments, by name."""

from collections.abc import Callable
from inspect import signature

import torch
from torch import nn

from hypergrad.core.seeding import seed_of
from hypergrad.models.lenet import LeNet
from hypergrad.models.mlp import MLP
from hypergrad.models.wrn import WideResNet

__all__ = ["MODELS", "LeNet", "MLP", "WideResNet", "build"]

MODELS: dict[str, Callable[..., nn.Module]] = {"lenet": LeNet, "mlp": MLP, "wrn": WideResNet}


def build(
    name: str,
    shape: tuple[int, int, int],
    classes: int,
    *,
    seed: int = 0,
    options: dict[str, int | float] | None = None,
) -> nn.Module:
    """Build a network with seeded initial weights, leaving the global random state alone.

    Args:
        name: One of `MODELS`.
        shape: (channels, height, width) of one image.
        classes: Number of classes.
        seed: The initial weights are a pure function of it.
        options: Further arguments of the network, such as `depth` and `width` of `wrn`.

    Returns:
        The module, float32, on the CPU.

    Raises:
        ValueError: For an unknown name, an option that the network does not have, or images that
            it cannot take.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: use one of {', '.join(sorted(MODELS))}")
    network = MODELS[name]
    options = options or {}
    known = list(signature(network).parameters)[2:]  # after the image shape and the classes
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"model {name!r} has no option {', '.join(unknown)}: "
            f"it takes {', '.join(known) or 'none'}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("weights", seed))
        return network(shape, classes, **options)
