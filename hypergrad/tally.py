"""What happens to the tangents of forward mode: clips that bite, numbers that overflow.

Everything is counted on the device and read once, at the end of the inner loop.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.hypergradient import Trust, signal_to_noise
from hypergrad.rows import spans

__all__ = ["Tally"]


class Tally(NamedTuple):
    """Counts so far.

    Attributes:
        steps: Inner steps taken.
        clipped_gradients: Scalar; sum over the steps of the share of entries that `c_g` touched.
        clipped_products: `(N,)`; the same for `c_HZ` and each row's Hessian products.
        products: For each row, how many products it had.
        finite: `(N,)`; for each row, after how many steps it was still finite.
    """

    steps: int
    clipped_gradients: Tensor
    clipped_products: Tensor
    products: tuple[int, ...]
    finite: Tensor

    @classmethod
    def start(cls, theta: Tensor, count: int) -> "Tally":
        """Return the tally of `count` rows before the first step, beside `theta`."""
        zeros = torch.zeros(count, dtype=torch.float64, device=theta.device)
        return cls(0, zeros.new_zeros(()), zeros, (0,) * count, zeros.clone())

    def after(self, Z: Tensor, live: tuple[int, ...], clipped: Tensor, touched: Tensor) -> "Tally":
        """Return the tally after one more step.

        Args:
            Z: `(N, D)` tangents after the step.
            live: Rows that had a Hessian product.
            clipped: Scalar, share of the gradient's entries that `c_g` touched.
            touched: `(len(live),)`, the same for `c_HZ` and the products.

        Returns:
            The new counts.
        """
        clipped_products = self.clipped_products
        if live:
            clipped_products = clipped_products.clone()
            rows = spans(live)
            parts = touched.split([span.stop - span.start for span in rows])
            for span, part in zip(rows, parts, strict=True):
                clipped_products[span] += part
        return self.counted(live)._replace(
            clipped_gradients=self.clipped_gradients + clipped,
            clipped_products=clipped_products,
            finite=self.finite + Z.abs().amax(dim=1).isfinite(),
        )

    def counted(self, live: tuple[int, ...]) -> "Tally":
        """Return the tally with one more step and its products: what the host counts."""
        products = tuple(n + (row in live) for row, n in enumerate(self.products))
        return self._replace(steps=self.steps + 1, products=products)

    def trust(self, Z: Tensor, samples: Tensor) -> tuple[Trust, ...]:
        """Return how far to trust each row's hypergradient.

        Args:
            Z: `(N, D)` tangents at the end.
            samples: `(B, N)`, the hypergradients of each validation batch alone.

        Returns:
            One entry a row.
        """
        share = self.clipped_gradients.item() / max(self.steps, 1)
        rows = zip(
            signal_to_noise(samples),
            self.clipped_products.tolist(),
            self.products,
            (~Z.isfinite()).sum(dim=1).tolist(),
            self.finite.long().tolist(),
            strict=True,
        )
        return tuple(
            Trust(
                ratio,
                share,
                clipped / products if products else None,
                not_finite,
                finite if finite < self.steps else None,
            )
            for ratio, clipped, products, not_finite, finite in rows
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that a step changes, by name."""
        return {
            "clipped_gradients": self.clipped_gradients,
            "clipped_products": self.clipped_products,
            "finite": self.finite,
        }
