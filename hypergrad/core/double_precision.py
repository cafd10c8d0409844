"""The precision in which sums and statistics are kept on a device: float64 where it has that.

Apple's GPUs (`mps`) have none. What is kept there is in float32, and checks that need float64 are
left out, with a word, or done on the CPU.
"""

import torch
from torch import Tensor

__all__ = ["WITHOUT", "has_float64", "widened", "widest"]

WITHOUT = {"mps"}  # types of device without float64


def has_float64(device: torch.device) -> bool:
    """Say whether a device computes in float64."""
    return device.type not in WITHOUT


def widest(device: torch.device) -> torch.dtype:
    """Return the most precise type of floating-point number that a device has.

    >>> widest(torch.device("cpu")), widest(torch.device("mps"))
    (torch.float64, torch.float32)
    """
    return torch.float64 if has_float64(device) else torch.float32


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor in the most precise type that its device has; `double()` where it can be."""
    return tensor.to(widest(tensor.device))
