"""Where PyTorch's global generators are: networks with dropout draw from them."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["random_state", "set_random_state"]

CPU, CUDA = "random_state", "cuda_random_state"


def random_state() -> dict[str, Tensor]:
    """Return the state of the generators of the CPU and, where there is one, of the GPU."""
    states = {CPU: torch.get_rng_state()}
    if torch.cuda.is_available():
        states[CUDA] = torch.cuda.get_rng_state()
    return states


def set_random_state(states: Mapping[str, Tensor]) -> None:
    """Put the generators where they were.

    Args:
        states: As `random_state` returns them, among other tensors.
    """
    torch.set_rng_state(states[CPU])
    if CUDA in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states[CUDA])
