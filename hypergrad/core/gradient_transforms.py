"""What happens to a gradient before the optimiser sees it, and its derivative.

The derivative of each of them is a symmetric matrix, so one product serves tangents and adjoints.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from hypergrad.core.double_precision import widened, widest

__all__ = [
    "ElementwiseClip",
    "GradientTransform",
    "NoClip",
    "NormClip",
    "Transformed",
    "clip_gradients",
    "share_above",
]

STABILISER = 1e-6  # of `torch.nn.utils.clip_grad_norm_`


class Transformed(NamedTuple):
    """A gradient after a transformation.

    Attributes:
        gradient: `(..., D)`.
        multiply: Maps `(N, D)` rows to their products with its derivative.
        touched: Share of the entries that it changed, a float64 scalar on the device.
    """

    gradient: Tensor
    multiply: Callable[[Tensor], Tensor]
    touched: Tensor


class GradientTransform(Protocol):
    """A map from gradients to gradients."""

    def __call__(self, g: Tensor) -> Tensor:
        """Return the transformed gradient of `(..., D)`, of several models one row each."""
        ...

    def with_derivative(self, g: Tensor) -> Transformed:
        """Return it with its derivative, for `(D,)`."""
        ...


@dataclass(frozen=True)
class NoClip:
    """The gradient as it is."""

    def __call__(self, g: Tensor) -> Tensor:
        """Return the gradient."""
        return g

    def with_derivative(self, g: Tensor) -> Transformed:
        """Return it with its derivative, the identity."""
        return Transformed(g, lambda rows: rows, share_above(g, None))


@dataclass(frozen=True)
class ElementwiseClip:
    """Every entry clipped to `±limit`, like `clip_grad_value_`; zero derivative where it bites.

    Args:
        limit: `c_g`, above zero. A value exactly at it passes.

    Raises:
        ValueError: For another limit.
    """

    limit: float

    def __post_init__(self) -> None:
        _check(self.limit)

    def __call__(self, g: Tensor) -> Tensor:
        """Return the clipped gradient."""
        return g.clamp(-self.limit, self.limit)

    def with_derivative(self, g: Tensor) -> Transformed:
        """Return it with its derivative, a mask."""
        passes = g.abs() <= self.limit
        # Zero even where the product overflowed.
        return Transformed(
            self(g), lambda rows: torch.where(passes, rows, 0.0), share_above(g, self.limit)
        )


@dataclass(frozen=True)
class NormClip:
    """The whole gradient scaled down to a norm, like `clip_grad_norm_`.

        g min(1, limit / (|g| + 1e-6))

    Args:
        limit: Of the Euclidean norm over all parameters, above zero.

    Raises:
        ValueError: For another limit.
    """

    limit: float

    def __post_init__(self) -> None:
        _check(self.limit)

    def __call__(self, g: Tensor) -> Tensor:
        """Return the scaled gradient."""
        norm = torch.linalg.vector_norm(g, dim=-1, keepdim=True)
        return g * (self.limit / (norm + STABILISER)).clamp(max=1.0)

    def with_derivative(self, g: Tensor) -> Transformed:
        """Return it with its derivative: a scale, less what changes the norm."""
        norm = torch.linalg.vector_norm(g)
        scale = self.limit / (norm + STABILISER)
        bites = scale < 1

        def multiply(rows: Tensor) -> Tensor:
            along = (rows @ g) / (norm * (norm + STABILISER))
            scaled = scale * (rows - along[..., None] * g)
            return torch.where(bites, scaled, rows)

        return Transformed(self(g), multiply, widened(bites))


def share_above(values: Tensor, limit: float | None) -> Tensor:
    """Return the share of entries that an elementwise clip to `±limit` changes.

    Args:
        values: `(..., D)`.
        limit: Of the clip, or None. NaN is not changed by it.

    Returns:
        `(...)` float64 in [0, 1], on the device of the values.
    """
    if limit is None:
        return values.new_zeros(values.shape[:-1], dtype=widest(values.device))
    return widened(values.abs() > limit).mean(dim=-1)


def clip_gradients(transform: GradientTransform, parameters: Iterable[Tensor]) -> None:
    """Clip the gradients of parameters in place, as a training loop does after `backward()`.

    Args:
        transform: One of this module.
        parameters: All that the optimiser steps.

    Raises:
        ValueError: For a transform of the user's own.
    """
    if isinstance(transform, ElementwiseClip):
        nn.utils.clip_grad_value_(parameters, transform.limit)
    elif isinstance(transform, NormClip):
        nn.utils.clip_grad_norm_(parameters, transform.limit)
    elif not isinstance(transform, NoClip):
        raise ValueError(f"{transform} is not of torch: apply it to the gradients by hand")


def _check(limit: float) -> None:
    if not limit > 0:
        raise ValueError(f"a gradient clip of {limit}: must be above zero; NoClip() has none")
