"""How layers without weights carry all tangent columns at once, and the loss at their end.

A layer maps `x` to `y`. Along column `n` the weights move by `dw[n]`, hence `x` by `dx[:, n]`,
which `push` maps to `dy`. On the way back the gradient of the loss with respect to `y` is
`gy[:, 0]`, and its derivatives along the columns, the rest of `gy`, are carried beside it: `pull`
maps `gy` to `gx` and adds what belongs to the layer's own weights, gradient and products, to the
rows of `G`.
Activations are `(B, N, ...)`, example before column: so the columns fold into the batch or into the
channels without a copy, and every product is one plain kernel call.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "CrossEntropy",
    "Layer",
    "Locate",
    "MaxPool2d",
    "Pointwise",
    "ReLU",
    "Reshape",
    "Slot",
    "Tanh",
]


class Slot(NamedTuple):
    """Where a weight lies in the flat parameter vector."""

    start: int
    shape: torch.Size

    def read(self, Z: Tensor) -> Tensor:
        """Return these `(N, *shape)` columns of `(N, D)` rows."""
        return Z[:, self.start : self.start + self.shape.numel()].unflatten(1, self.shape)

    def add(self, G: Tensor, more: Tensor) -> None:
        """Add `(N, *shape)` to these columns of `(N, D)` rows; a tied weight is added to twice."""
        G[:, self.start : self.start + self.shape.numel()] += more.flatten(1)


Locate = Callable[[Tensor | None], Slot | None]


class Layer:
    """One layer of a chain.

    Args:
        x: Its input, `(B, ...)`.
        y: Its output.
        locate: Where a weight lies in the parameters; None for a constant, or for no weight.
        settings: Further arguments of the PyTorch function that it stands for.

    Attributes:
        dims: Dimensions of an input that it can take, or None for any.
    """

    dims: int | None = None

    def __init__(self, x: Tensor, y: Tensor, locate: Locate, *settings: object) -> None:
        self.x, self.y = x.detach(), y

    def push(self, dx: Tensor | None, Z: Tensor) -> Tensor:
        """Return `dy`; `dx` is None where `x` does not depend on the parameters."""
        raise NotImplementedError

    def pull(self, gy: Tensor, G: Tensor) -> Tensor:
        """Return `gx`, or anything if `x` does not depend on the parameters."""
        raise NotImplementedError


class Pointwise(Layer):
    """`y = f(x)`, elementwise; `f` rises, and `f'` is a function of `y`."""

    def push(self, dx: Tensor | None, Z: Tensor) -> Tensor:
        """Scale by the slope."""
        assert dx is not None
        self._slope = self._derivative()[:, None]
        return dx * self._slope

    def pull(self, gy: Tensor, G: Tensor) -> Tensor:
        """Scale by the slope."""
        return gy * self._slope

    def _derivative(self) -> Tensor:
        raise NotImplementedError


class ReLU(Pointwise):
    """`y = max(x, 0)`, which has no curvature of its own."""

    def _derivative(self) -> Tensor:
        return (self.y > 0).to(self.y.dtype)


class Tanh(Pointwise):
    """`y = tanh(x)`, with `f'' = -2 y f'`."""

    def push(self, dx: Tensor | None, Z: Tensor) -> Tensor:
        """Scale by the slope, and keep the result for the way back."""
        self._dy = super().push(dx, Z)
        return self._dy

    def pull(self, gy: Tensor, G: Tensor) -> Tensor:
        """Scale by the slope, which has moved too."""
        gx = super().pull(gy, G)
        gx[:, 1:] -= (2 * self.y * gy[:, 0])[:, None] * self._dy
        return gx

    def _derivative(self) -> Tensor:
        return 1 - self.y**2


class MaxPool2d(Layer):
    """The maximum over windows: a choice of entries of `x`.

    Args:
        x: `(B, C, H, W)` input.
        y: Its output.
        locate: Not needed.
        winners: Of the shape of `y`: which pixel of `x` each entry is, counted over `H W`.
    """

    dims = 4

    def __init__(self, x: Tensor, y: Tensor, locate: Locate, winners: Tensor) -> None:
        super().__init__(x, y, locate)
        self.winners = winners.flatten(2)

    def push(self, dx: Tensor | None, Z: Tensor) -> Tensor:
        """Choose."""
        assert dx is not None
        return dx.flatten(3).gather(3, self._winners_of(dx)).unflatten(3, self.y.shape[2:])

    def pull(self, gy: Tensor, G: Tensor) -> Tensor:
        """Give back to the chosen; where windows overlap, one entry can win several times."""
        gx = gy.new_zeros(*gy.shape[:3], self.x[0, 0].numel())
        gx.scatter_add_(3, self._winners_of(gy), gy.flatten(3))
        return gx.unflatten(3, self.x.shape[2:])

    def _winners_of(self, columns: Tensor) -> Tensor:
        return self.winners[:, None].expand(-1, columns.shape[1], -1, -1)


class Reshape(Layer):
    """Another shape for each example."""

    def push(self, dx: Tensor | None, Z: Tensor) -> Tensor:
        """Reshape."""
        assert dx is not None
        return dx.reshape(*dx.shape[:2], *self.y.shape[1:])

    def pull(self, gy: Tensor, G: Tensor) -> Tensor:
        """Reshape back."""
        return gy.reshape(*gy.shape[:2], *self.x.shape[1:])


class CrossEntropy:
    """The mean cross-entropy at the end of a chain; arguments as of the PyTorch function.

    Attributes:
        plain: Whether it is one that `push` is right for. Label smoothing is: it adds a term that
            is linear in the logarithms of the probabilities, with weights that sum to one.
    """

    def __init__(
        self,
        input: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        plain = weight is None and size_average is None and reduce is None and reduction == "mean"
        self.plain = plain and input.dim() == 2 and not target.is_floating_point()
        self._logits, self._counted = input.detach(), target != ignore_index

    def push(self, dy: Tensor) -> Tensor:
        """Return the derivatives of the logits' gradient, `(B, N, classes)` as `dy` is.

        The Hessian of one example's loss is `diag(p) - p p'`, whatever its label.
        """
        p = self._logits.softmax(1)[:, None]
        share = (self._counted.to(p.dtype) / self._counted.sum())[:, None, None]
        return share * p * (dy - (p * dy).sum(2, keepdim=True))
