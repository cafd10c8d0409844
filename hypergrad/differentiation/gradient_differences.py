"""Whether a Hessian product is the derivative of the gradient: against differences of gradients.

    H z  =  (g(theta + h z) - g(theta - h z)) / 2 h  +  O(h^2)  +  rounding / h

at two steps `h` a factor of ten apart. What rounding or a kink (a ReLU that switches between the
two points) does differs between the steps; a wrong term does not. So a difference is evidence only
where it is larger than what the two steps differ by.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.curvature import gradient, gradient_and_products

__all__ = ["Verdict", "compare_with_differences", "probe", "product_by"]

Loss = Callable[[Tensor], Tensor]

FIRST_STEP = 1e-5  # in float64, relative to the parameters: far fewer kinks than there are units
CERTAIN = 3.0  # times the uncertainty: then it is no rounding and no kink
TOLERANCE = 1e-4  # a wrong term that matters shows at 1e-3 and more
UNKNOWN = 0.1  # uncertainty of a difference that says nothing


class Verdict(NamedTuple):
    """What differences of gradients say about a product.

    Attributes:
        error: Of the product, relative to the difference.
        uncertainty: Of the difference itself, likewise.
    """

    error: float
    uncertainty: float

    @property
    def is_wrong(self) -> bool:
        """Whether the product is wrong beyond doubt."""
        return not self.is_unknown and self.error > max(TOLERANCE, CERTAIN * self.uncertainty)

    @property
    def is_unknown(self) -> bool:
        """Whether the differences are too rough to tell."""
        return not math.isfinite(self.uncertainty) or self.uncertainty > UNKNOWN


def probe(theta: Tensor) -> Tensor:
    """Return a `(1, D)` direction of normal numbers, the same for the same `D`."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, len(theta), generator=generator, dtype=torch.float64)
    return z.to(theta)


def compare_with_differences(loss: Loss, theta: Tensor, HZ: Tensor, Z: Tensor) -> Verdict:
    """Compare a product with differences of gradients, at up to three steps.

    Args:
        loss: Maps `(D,)` parameters to a scalar; pure.
        theta: `(D,)` point, float64.
        HZ: `(1, D)` product.
        Z: `(1, D)` direction.
    """
    scale = float(theta.square().mean().sqrt()) or 1.0
    product, z = HZ[0], Z[0]

    def difference(step: float) -> Tensor:
        return (gradient(loss, theta + step * z) - gradient(loss, theta - step * z)) / (2 * step)

    size_of_gradient = float(gradient(loss, theta).norm())
    step = FIRST_STEP * scale
    last = difference(step)
    verdict = Verdict(math.inf, math.inf)
    for _ in range(2):
        step /= 10
        now = difference(step)
        size = max(float(now.norm()), float(product.norm()))
        floor = torch.finfo(theta.dtype).eps * size_of_gradient / step
        if not size or size < floor:
            return Verdict(0.0, 0.0) if size <= floor else verdict
        verdict = Verdict(
            float((now - product).norm()) / size, (float((now - last).norm()) + floor) / size
        )
        if not verdict.is_unknown and not (
            TOLERANCE < verdict.error <= CERTAIN * verdict.uncertainty
        ):
            break
        last = now
    return verdict


def product_by(loss: Loss, theta: Tensor, Z: Tensor, strategy: str) -> Tensor:
    """Return the `(N, D)` products by a strategy; there are no running statistics to update."""
    return gradient_and_products(loss, theta, Z, strategy, loss)[1]
