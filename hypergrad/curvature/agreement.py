"""How far two ways to compute the same thing may differ, by precision."""

import torch
from torch import Tensor

from hypergrad.core.double_precision import widened

__all__ = ["PRODUCTS", "relative_error"]

# Of Hessian products of one network by two strategies, relative. Single precision leaves up to 1e-2
# in deep networks with batch normalisation; what is really another computation is far off.
PRODUCTS = {torch.float32: 0.05, torch.float64: 1e-6}


def relative_error(one: Tensor, other: Tensor) -> float:
    """Return the distance of two tensors relative to the larger of them; 0 for two zeros.

    >>> relative_error(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])) < 0.1
    True
    """
    a, b = widened(one), widened(other)
    size = max(float(a.norm()), float(b.norm()))
    return float((a - b).norm()) / size if size else 0.0
