"""A network anew, with other weights."""

import copy
from collections.abc import Callable

import torch
from torch import nn

__all__ = ["fresh"]


def fresh(module: nn.Module | Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return a network with the weights of a seed; random numbers elsewhere are left alone.

    Raises:
        ValueError: For a module with parameters that it cannot reset.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if not isinstance(module, nn.Module):
            return module()
        own = copy.deepcopy(module)
        for name, each in own.named_modules():
            if hasattr(each, "reset_parameters"):
                each.reset_parameters()  # type: ignore[operator]
            elif next(each.parameters(recurse=False), None) is not None:
                raise ValueError(
                    f"{name or type(each).__name__} has parameters and no reset_parameters: give a "
                    "function that makes a fresh network"
                )
        return own
