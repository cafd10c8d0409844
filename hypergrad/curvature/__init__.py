"""Gradient and Hessian products of the training loss, for all tangent columns at once.

This is where nearly all the time of a search goes. Exact strategies share one interface:

- `loop`: one gradient graph, differentiated once more per column. Any network; least memory.
- `vmap`: forward-over-reverse, all columns batched. Any network without randomness.
- `stacked`: the layers' own rules, all columns batched. Plain chains of layers; the fastest there.
- `fused`: `loop`, with convolution and batch normalisation differentiated by hand. Any network;
  the fastest for those whose activations do not fit the caches.
"""

from hypergrad.curvature.fused import Fused
from hypergrad.curvature.layout import LayoutError
from hypergrad.curvature.products import (
    STRATEGIES,
    check_layout,
    gradient,
    gradient_and_multiplier,
    gradient_and_products,
    multiplier,
)
from hypergrad.curvature.stacked import check_stackable

__all__ = [
    "Fused",
    "LayoutError",
    "STRATEGIES",
    "check_layout",
    "check_stackable",
    "gradient",
    "gradient_and_multiplier",
    "gradient_and_products",
    "multiplier",
]
