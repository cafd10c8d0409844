"""How each kind of layer carries all tangent columns at once, forward and backward.

A layer maps `x` to `y`. Along column `n` the weights move by `dw[n]`, hence `x` by `dx[:, n]` and the
gradient `gy` of the loss with respect to `y` by `dgy[:, n]`. `push` maps `dx` to `dy`; `pull` maps
`dgy` to `dgx` and adds the products of the layer's own weights to `HZ`. Tensors of activations are
`(B, N, ...)`, example before column, so that the columns are folded into the batch or into the
channels without a copy, and every product is one plain kernel call.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight
from torch.nn.modules.utils import _pair

__all__ = ["Conv2d", "CrossEntropy", "Layer", "Linear", "MaxPool2d", "Pointwise", "PooledConv2d", "ReLU", "Reshape", "Slot", "Tanh"]

Pair = int | tuple[int, int]


class Slot(NamedTuple):
    """Where a weight lies in the flat parameter vector."""

    start: int
    shape: torch.Size

    def read(self, Z: Tensor) -> Tensor:
        """Return the `(N, *shape)` part of `(N, D)` rows."""
        return Z[:, self.start : self.start + self.shape.numel()].unflatten(1, self.shape)

    def add(self, HZ: Tensor, part: Tensor) -> None:
        """Add `(N, *shape)` to that part of `(N, D)` rows; a tied weight is added to twice."""
        HZ[:, self.start : self.start + self.shape.numel()] += part.flatten(1)


Locate = Callable[[Tensor | None], Slot | None]


class Layer:
    """One layer of a chain.

    Args:
        x: Its input, `(B, ...)`.
        y: Its output.
        locate: Where a weight lies in the parameters; None for a constant, or for no weight.
        settings: Further arguments of the PyTorch function that it stands for.
    """

    def __init__(self, x: Tensor, y: Tensor, locate: Locate, *settings: object) -> None:
        self.x, self.y = x.detach(), y

    def push(self, dx: Tensor | None, Z: Tensor) -> Tensor:
        """Return `dy`; `dx` is None where `x` does not depend on the parameters."""
        raise NotImplementedError

    def pull(self, gy: Tensor, dgy: Tensor, HZ: Tensor) -> Tensor:
        """Return `dgx`, or anything if `x` does not depend on the parameters."""
        raise NotImplementedError


class Pointwise(Layer):
    """`y = f(x)`, elementwise; `slope` is `f'(x)`."""

    slope: Tensor

    def push(self, dx: Tensor | None, Z: Tensor) -> Tensor:
        assert dx is not None
        return dx * self.slope[:, None]

    def pull(self, gy: Tensor, dgy: Tensor, HZ: Tensor) -> Tensor:
        return dgy * self.slope[:, None]


class ReLU(Pointwise):
    """`y = max(x, 0)`: no curvature of its own."""

    def __init__(self, x: Tensor, y: Tensor, locate: Locate) -> None:
        super().__init__(x, y, locate)
        self.slope = (y > 0).to(y.dtype)


class Tanh(Pointwise):
    """`y = tanh(x)`: `f'' = -2 y f'`."""

    def __init__(self, x: Tensor, y: Tensor, locate: Locate) -> None:
        super().__init__(x, y, locate)
        self.slope = 1 - y.detach() ** 2

    def push(self, dx: Tensor | None, Z: Tensor) -> Tensor:
        self._dy = super().push(dx, Z)
        return self._dy

    def pull(self, gy: Tensor, dgy: Tensor, HZ: Tensor) -> Tensor:
        return super().pull(gy, dgy, HZ) - (2 * self.y.detach() * gy)[:, None] * self._dy


class MaxPool2d(Layer):
    """The maximum over windows: a choice of entries of `x`.

    Args:
        x: `(B, C, H, W)` input.
        y: Its output.
        locate: Not needed.
        winners: Of the shape of `y`: which pixel of `x` each entry is, counted over `H W`.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        locate: Locate,
        winners: Tensor,
    ) -> None:
        super().__init__(x, y, locate)
        self.winners = winners

    def push(self, dx: Tensor | None, Z: Tensor) -> Tensor:
        assert dx is not None
        winners = self.winners.flatten(2)[:, None].expand(-1, dx.shape[1], -1, -1)
        return dx.flatten(3).gather(3, winners).unflatten(3, self.y.shape[2:])

    def pull(self, gy: Tensor, dgy: Tensor, HZ: Tensor) -> Tensor:
        winners = self.winners.flatten(2)[:, None].expand(-1, dgy.shape[1], -1, -1)
        dgx = dgy.new_zeros(*dgy.shape[:3], self.x.shape[2:].numel())
        # Windows may overlap: an entry can win several times.
        return dgx.scatter_add_(3, winners, dgy.flatten(3)).unflatten(3, self.x.shape[2:])


class Reshape(Layer):
    """Another shape for each example."""

    def push(self, dx: Tensor | None, Z: Tensor) -> Tensor:
        assert dx is not None
        return dx.reshape(*dx.shape[:2], *self.y.shape[1:])

    def pull(self, gy: Tensor, dgy: Tensor, HZ: Tensor) -> Tensor:
        return dgy.reshape(*dgy.shape[:2], *self.x.shape[1:])


class Affine(Layer):
    """`y = x * w + b` with a product that is linear in `x` and in `w`.

    Its derivatives are products too, one by `x` and one by `w`: six in all, each with the columns
    stacked in one of its two arguments.
    """

    def __init__(
        self, x: Tensor, y: Tensor, locate: Locate, weight: Tensor, bias: Tensor | None = None
    ) -> None:
        super().__init__(x, y, locate)
        self.weights = locate, weight, bias
        self.w = weight.detach()
        self._slot, self._bias = locate(weight), locate(bias)

    def push(self, dx: Tensor | None, Z: Tensor) -> Tensor:
        self._dx, self._dw = dx, None if self._slot is None else self._slot.read(Z)
        terms = []
        if self._dx is not None:
            terms.append(self._forward_dx(self._dx))
        if self._dw is not None:
            terms.append(self._forward_dw(self._dw))
        if self._bias is not None:
            db = self._bias.read(Z)
            terms.append(db.reshape(*db.shape, *[1] * (self.y.dim() - 2)))
        dy = terms[0]
        for term in terms[1:]:
            dy = dy + term
        return dy if dy.dim() > self.y.dim() else dy.expand(len(self.y), *dy.shape)

    def pull(self, gy: Tensor, dgy: Tensor, HZ: Tensor) -> Tensor:
        if self._slot is not None:
            dgw = self._weight_dgy(dgy)
            if self._dx is not None:
                dgw = dgw + self._weight_dx(gy, self._dx)
            self._slot.add(HZ, dgw)
        if self._bias is not None:
            self._bias.add(HZ, dgy.flatten(3).sum((0, 3)) if dgy.dim() > 3 else dgy.sum(0))
        if self._dx is None:
            return dgy
        dgx = self._input_dgy(dgy)
        return dgx if self._dw is None else dgx + self._input_dw(gy, self._dw)

    def _forward_dx(self, dx: Tensor) -> Tensor: raise NotImplementedError
    def _forward_dw(self, dw: Tensor) -> Tensor: raise NotImplementedError
    def _input_dgy(self, dgy: Tensor) -> Tensor: raise NotImplementedError
    def _input_dw(self, gy: Tensor, dw: Tensor) -> Tensor: raise NotImplementedError
    def _weight_dgy(self, dgy: Tensor) -> Tensor: raise NotImplementedError
    def _weight_dx(self, gy: Tensor, dx: Tensor) -> Tensor: raise NotImplementedError


class Linear(Affine):
    """`y = x w' + b`, of `(B, features)`."""

    def _forward_dx(self, dx: Tensor) -> Tensor:
        return dx @ self.w.T

    def _forward_dw(self, dw: Tensor) -> Tensor:
        return (self.x @ dw.flatten(0, 1).T).unflatten(1, dw.shape[:2])

    def _input_dgy(self, dgy: Tensor) -> Tensor:
        return dgy @ self.w

    def _input_dw(self, gy: Tensor, dw: Tensor) -> Tensor:
        columns = dw.transpose(0, 1)
        return (gy @ columns.flatten(1)).unflatten(1, columns.shape[1:])

    def _weight_dgy(self, dgy: Tensor) -> Tensor:
        return (dgy.flatten(1).T @ self.x).unflatten(0, dgy.shape[1:])

    def _weight_dx(self, gy: Tensor, dx: Tensor) -> Tensor:
        return (gy.T @ dx.flatten(1)).unflatten(1, dx.shape[1:]).transpose(0, 1)


class Conv2d(Affine):
    """Two-dimensional cross-correlation, in groups."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        locate: Locate,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
    ) -> None:
        super().__init__(x, y, locate, weight, bias)
        self._settings = _pair(stride), _pair(padding), _pair(dilation), groups
        self._groups = groups

    def _forward_dx(self, dx: Tensor) -> Tensor:
        dy = F.conv2d(dx.flatten(0, 1), self.w, None, *self._settings)
        return dy.unflatten(0, dx.shape[:2])

    def _forward_dw(self, dw: Tensor) -> Tensor:
        rows = self._fold(dw[None])[0]
        return self._unfold(F.conv2d(self.x, rows, None, *self._settings), len(dw))

    def _input_dgy(self, dgy: Tensor) -> Tensor:
        return self._transposed(dgy.flatten(0, 1), self.w).unflatten(0, dgy.shape[:2])

    def _input_dw(self, gy: Tensor, dw: Tensor) -> Tensor:
        return self._unfold(self._transposed(gy, dw.transpose(0, 1).flatten(1, 2)), len(dw))

    def _weight_dgy(self, dgy: Tensor) -> Tensor:
        N, (rows, *others) = dgy.shape[1], self.w.shape
        dgw = self._weight(self.x, (N * rows, *others), self._fold(dgy))
        return self._unfold(dgw[None], N)[0]

    def _weight_dx(self, gy: Tensor, dx: Tensor) -> Tensor:
        N, (rows, columns, *kernel) = dx.shape[1], self.w.shape
        dgw = self._weight(self._fold(dx), (rows, N * columns, *kernel), gy)
        return dgw.unflatten(1, (N, columns)).transpose(0, 1)

    def _transposed(self, gy: Tensor, w: Tensor) -> Tensor:
        stride, padding, dilation, groups = self._settings
        # The pixels at the far edges that no stride reaches.
        rest = [
            (size + 2 * p - d * (k - 1) - 1) % s
            for size, k, s, p, d in zip(
                self.x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True
            )
        ]
        return F.conv_transpose2d(gy, w, None, stride, padding, rest, groups, dilation)

    def _weight(self, x: Tensor, shape: tuple[int, ...], gy: Tensor) -> Tensor:
        # Twice as fast in this layout, on the CPU.
        x, gy = (t.contiguous(memory_format=torch.channels_last) for t in (x, gy))
        return conv2d_weight(x, shape, gy, *self._settings)

    def _fold(self, t: Tensor) -> Tensor:
        """`(B, N, C, ...)` to `(B, g N C/g, ...)`: the columns become channels of each group."""
        return t.unflatten(2, (self._groups, -1)).transpose(1, 2).flatten(1, 3)

    def _unfold(self, t: Tensor, N: int) -> Tensor:
        """The inverse of `_fold`."""
        return t.unflatten(1, (self._groups, N, -1)).transpose(1, 2).flatten(2, 3)

    def patches(self, pixels: Tensor) -> Tensor:
        """Return what each output pixel sees of the input.

        Args:
            pixels: `(B, O, P)`, `P` pixels of each output channel, counted over the output's area.

        Returns:
            `(O, B P, K)`, `K` weights of an output channel.
        """
        stride, (rows, columns), dilation, groups = self._settings
        seen = F.pad(self.x, (columns, columns, rows, rows))
        for side in (0, 1):
            span = dilation[side] * (self.w.shape[2 + side] - 1) + 1
            seen = seen.unfold(2 + side, span, stride[side])[..., :: dilation[side]]
        K, area = self.w[0].numel(), seen.shape[2:4].numel()  # (B, I, H, W, kernel)
        rows = seen.unflatten(1, (groups, -1)).permute(0, 3, 4, 1, 2, 5, 6).reshape(-1, K)
        O, example = pixels.shape[1], torch.arange(len(pixels), device=pixels.device)
        group = torch.arange(O, device=pixels.device) * groups // O
        chosen = (example[:, None, None] * area + pixels) * groups + group[:, None]
        return rows.index_select(0, chosen.transpose(0, 1).flatten()).unflatten(0, (O, -1))


class PooledConv2d(Affine):
    """A convolution of constant images with the max-pooling after it: only winners are computed."""

    def __init__(self, conv: Conv2d, pool: MaxPool2d) -> None:
        super().__init__(conv.x, pool.y, *conv.weights)
        self._patches = conv.patches(pool.winners.flatten(2))

    def _forward_dw(self, dw: Tensor) -> Tensor:
        dy = dw.flatten(2).transpose(0, 1) @ self._patches.mT  # (O, N, B P)
        dy = dy.unflatten(2, (len(self.y), *self.y.shape[2:]))
        return dy.movedim(2, 0).transpose(1, 2)

    def _weight_dgy(self, dgy: Tensor) -> Tensor:
        dgy = dgy.transpose(1, 2).movedim(0, 2).flatten(2)  # (O, N, B P)
        return (dgy @ self._patches).transpose(0, 1).unflatten(2, self.w.shape[1:])


class CrossEntropy:
    """The mean cross-entropy at the end of a chain, with any of PyTorch's settings."""

    def __init__(self, logits: Tensor, labels: Tensor, *args: object, **settings: object) -> None:
        self._logits, self._labels = logits.detach(), labels
        self._settings = args, settings

    def push(self, dy: Tensor) -> Tensor:
        """Return the derivatives of the gradient of the logits, `(B, N, classes)` as `dy` is.

        Examples do not mix, so the Hessian is symmetric block by block: one double backward
        through a copy of the logits for each column gives all of them.
        """
        N, (args, settings) = dy.shape[1], self._settings
        with torch.enable_grad():
            logits = self._logits.repeat_interleave(N, 0).requires_grad_()
            labels = self._labels.repeat_interleave(N, 0)
            loss = F.cross_entropy(logits, labels, *args, **settings)  # type: ignore[arg-type]
            (g,) = torch.autograd.grad(loss, logits, create_graph=True)
            (product,) = torch.autograd.grad(g, logits, dy.flatten(0, 1))
        return N * product.unflatten(0, dy.shape[:2])
