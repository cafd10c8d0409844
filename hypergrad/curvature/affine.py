"""How linear layers and convolutions carry all tangent columns at once."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight
from torch.nn.modules.utils import _pair

from hypergrad.curvature.layers import Layer, Locate, MaxPool2d

__all__ = ["Affine", "Conv2d", "Linear", "PooledConv2d"]

Pair = int | tuple[int, int]


class Affine(Layer):
    """`y = x * w + b`, with a product that is linear in `x` and in `w`.

    Its derivatives by `x` and by `w` are such products as well: six in all, as the columns are
    stacked in one of the two arguments of each.
    """

    def __init__(
        self, x: Tensor, y: Tensor, locate: Locate, weight: Tensor, bias: Tensor | None = None
    ) -> None:
        super().__init__(x, y, locate)
        self.weights = locate, weight, bias
        self.w = weight.detach()
        self._slot, self._bias = locate(weight), locate(bias)

    def push(self, dx: Tensor | None, Z: Tensor) -> Tensor:
        """Add what comes from the input, from the weight, and from the bias."""
        self._dx, self._dw = dx, None if self._slot is None else self._slot.read(Z)
        terms = [] if dx is None else [self._forward_dx(dx)]
        if self._dw is not None:
            terms.append(self._forward_dw(self._dw))
        if self._bias is not None:
            db = self._bias.read(Z)
            terms.append(db.reshape(*db.shape, *[1] * (self.y.dim() - 2)))
        dy = terms[0]
        for term in terms[1:]:
            dy += term
        if dy.dim() == self.y.dim():  # the bias alone
            dy = dy.expand(len(self.y), len(Z), *self.y.shape[1:])
        return dy

    def pull(self, gy: Tensor, G: Tensor) -> Tensor:
        """Add the rows of weight and bias, and return those of the input."""
        if self._slot is not None:
            gw = self._weight_gy(gy)
            if self._dx is not None:
                gw[1:] += self._weight_dx(gy[:, 0], self._dx)
            self._slot.add(G, gw)
        if self._bias is not None:
            self._bias.add(G, gy.flatten(3).sum((0, 3)) if gy.dim() > 3 else gy.sum(0))
        if self._dx is None:
            return gy
        gx = self._input_gy(gy)
        if self._dw is not None:
            gx[:, 1:] += self._input_dw(gy[:, 0], self._dw)
        return gx

    def _forward_dx(self, dx: Tensor) -> Tensor:
        raise NotImplementedError

    def _forward_dw(self, dw: Tensor) -> Tensor:
        raise NotImplementedError

    def _input_gy(self, gy: Tensor) -> Tensor:
        raise NotImplementedError

    def _input_dw(self, gy: Tensor, dw: Tensor) -> Tensor:
        raise NotImplementedError

    def _weight_gy(self, gy: Tensor) -> Tensor:
        raise NotImplementedError

    def _weight_dx(self, gy: Tensor, dx: Tensor) -> Tensor:
        raise NotImplementedError


class Linear(Affine):
    """`y = x w' + b`."""

    dims = 2

    def _forward_dx(self, dx: Tensor) -> Tensor:
        return dx @ self.w.T

    def _forward_dw(self, dw: Tensor) -> Tensor:
        return (self.x @ dw.flatten(0, 1).T).unflatten(1, dw.shape[:2])

    def _input_gy(self, gy: Tensor) -> Tensor:
        return gy @ self.w

    def _input_dw(self, gy: Tensor, dw: Tensor) -> Tensor:
        columns = dw.transpose(0, 1)
        return (gy @ columns.flatten(1)).unflatten(1, columns.shape[1:])

    def _weight_gy(self, gy: Tensor) -> Tensor:
        return (gy.flatten(1).T @ self.x).unflatten(0, gy.shape[1:])

    def _weight_dx(self, gy: Tensor, dx: Tensor) -> Tensor:
        return (gy.T @ dx.flatten(1)).unflatten(1, dx.shape[1:]).transpose(0, 1)


class Conv2d(Affine):
    """Two-dimensional cross-correlation, in groups."""

    dims = 4

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

    def patches(self, pixels: Tensor) -> Tensor:
        """Return what pixels of the output see of the input.

        Args:
            pixels: `(B, rows, P)`, `P` of them in each example and channel, counted over `H W`.

        Returns:
            `(rows, B P, K)`, `K` the weights of a channel.
        """
        stride, (above, beside), dilation, groups = self._settings
        seen = F.pad(self.x, (beside, beside, above, above))
        for side in (0, 1):
            span = dilation[side] * (self.w.shape[2 + side] - 1) + 1
            seen = seen.unfold(2 + side, span, stride[side])[..., :: dilation[side]]
        # (B, channels, H, W, *kernel) becomes a table, a line an example, pixel and group.
        seen = seen.unflatten(1, (groups, -1)).permute(0, 3, 4, 1, 2, 5, 6)
        table = seen.reshape(-1, self.w[0].numel())
        B, rows, _ = pixels.shape
        example = torch.arange(B, device=pixels.device)[:, None, None]
        group = torch.arange(rows, device=pixels.device)[:, None] * groups // rows
        lines = ((example * self.y[0, 0].numel() + pixels) * groups + group).int()  # picked faster
        return table.index_select(0, lines.transpose(0, 1).flatten()).unflatten(0, (rows, -1))

    def _forward_dx(self, dx: Tensor) -> Tensor:
        dy = F.conv2d(dx.flatten(0, 1), self.w, None, *self._settings)
        return dy.unflatten(0, dx.shape[:2])

    def _forward_dw(self, dw: Tensor) -> Tensor:
        rows = self._fold(dw[None])[0]
        return self._unfold(F.conv2d(self.x, rows, None, *self._settings), len(dw))

    def _input_gy(self, gy: Tensor) -> Tensor:
        return self._transposed(gy.flatten(0, 1), self.w).unflatten(0, gy.shape[:2])

    def _input_dw(self, gy: Tensor, dw: Tensor) -> Tensor:
        return self._unfold(self._transposed(gy, dw.transpose(0, 1).flatten(1, 2)), len(dw))

    def _weight_gy(self, gy: Tensor) -> Tensor:
        N, (rows, *others) = gy.shape[1], self.w.shape
        gw = self._weight(self.x, (N * rows, *others), self._fold(gy))
        return self._unfold(gw[None], N)[0]

    def _weight_dx(self, gy: Tensor, dx: Tensor) -> Tensor:
        N, (rows, columns, *kernel) = dx.shape[1], self.w.shape
        gw = self._weight(self._fold(dx), (rows, N * columns, *kernel), gy)
        return gw.unflatten(1, (N, columns)).transpose(0, 1)

    def _transposed(self, gy: Tensor, w: Tensor) -> Tensor:
        stride, padding, dilation, groups = self._settings
        # Pixels at the far edges that no stride reaches.
        rest = [
            (size + 2 * p - d * (k - 1) - 1) % s
            for size, k, s, p, d in zip(
                self.x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True
            )
        ]
        return F.conv_transpose2d(gy, w, None, stride, padding, rest, groups, dilation)

    def _weight(self, x: Tensor, shape: tuple[int, ...], gy: Tensor) -> Tensor:
        if x.dtype == torch.float32:  # twice as fast in this layout, on a CPU
            x, gy = (t.contiguous(memory_format=torch.channels_last) for t in (x, gy))
        return conv2d_weight(x, shape, gy, *self._settings)  # type: ignore[arg-type]

    def _fold(self, t: Tensor) -> Tensor:
        """`(B, N, C, ...)` to `(B, g N C/g, ...)`: the columns become channels of each group."""
        return t.unflatten(2, (self._groups, -1)).transpose(1, 2).flatten(1, 3)

    def _unfold(self, t: Tensor, N: int) -> Tensor:
        """The inverse of `_fold`."""
        return t.unflatten(1, (self._groups, N, -1)).transpose(1, 2).flatten(2, 3)


class PooledConv2d(Affine):
    """A convolution of constant images with the max-pooling after it: only winners are computed."""

    def __init__(self, conv: Conv2d, pool: MaxPool2d) -> None:
        super().__init__(conv.x, pool.y, *conv.weights)
        self._patches = conv.patches(pool.winners)

    @staticmethod
    def pays(conv: Conv2d, pool: MaxPool2d, N: int) -> bool:
        """Whether the patches that winners see are no larger than `N` columns of all outputs."""
        return conv.w[0].numel() * pool.y[0, 0].numel() <= N * conv.y[0, 0].numel()

    def _forward_dw(self, dw: Tensor) -> Tensor:
        dy = dw.flatten(2).transpose(0, 1) @ self._patches.mT  # (rows, N, B P)
        dy = dy.unflatten(2, (len(self.y), *self.y.shape[2:]))
        return dy.movedim(2, 0).transpose(1, 2).contiguous()

    def _weight_gy(self, gy: Tensor) -> Tensor:
        gy = gy.transpose(1, 2).movedim(0, 2).flatten(2)  # (rows, N, B P)
        return (gy @ self._patches).transpose(0, 1).unflatten(2, self.w.shape[1:])
