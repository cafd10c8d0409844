"""Fresh weights for a key: of a function that makes modules, or of one module drawn anew."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from hypergrad.core.seeding import seed_of

__all__ = ["GivenModule", "with_fresh_weights"]

GivenModule = nn.Module | Callable[[int], nn.Module]


def with_fresh_weights(given: GivenModule, key: int) -> nn.Module:
    """Return a module whose weights are those of a key.

    Args:
        given: Makes the module of a key; or a module, of which a copy is drawn anew by the
            `reset_parameters` of its layers.
        key: The same key gives the same weights.

    Raises:
        ValueError: For a module with parameters that no `reset_parameters` draws.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed_of("weights", key))
        if not isinstance(given, nn.Module):
            return given(key)
        module = copy.deepcopy(given)
        for name, layer in module.named_modules():
            own = [each for each, _ in layer.named_parameters(recurse=False)]
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
            elif own:
                raise ValueError(
                    f"{name or type(module).__name__} has a parameter {own[0]!r} and no "
                    "reset_parameters() to draw it anew: give a function from a key to a new module"
                )
    return module
