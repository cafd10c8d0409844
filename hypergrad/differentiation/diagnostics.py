"""What happens to the tangents of forward mode: clips that bite, numbers that overflow, growth.

Everything is counted on the device and read once, at the end of the inner loop.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.double_precision import widest
from hypergrad.differentiation.active_tangents import spans

__all__ = ["Diagnostics", "HypergradientDiagnostics", "signal_to_noise"]


class HypergradientDiagnostics(NamedTuple):
    """How far to trust one hypergradient.

    Attributes:
        signal_to_noise: Magnitude of its mean over its standard deviation, over validation batches;
            the mean of `B` batches is `sqrt(B)` times better. None if fewer than two were seen.
        clipped_gradients: Share of the entries of the training gradients that `c_g` touched.
        clipped_products: Share of the entries of its own Hessian products that `c_HZ` touched;
            None if it had no product. In reverse mode: share of the adjoints that
            `clip_adjoints` scaled down, None without it.
        not_finite: How many numbers behind it are NaN or infinite: entries of its tangent (forward
            mode), steps of its window (reverse mode).
        not_finite_step: The 0-based inner step where that began: on the way there in forward mode,
            on the way back in reverse mode. None if all are finite.
        growth: Finite-time Lyapunov estimate, a step: the natural logarithm of how much its tangent
            (the largest magnitude of its entries) has grown since the last step that its value was
            used at, over the steps since. Well above zero the training is chaotic, and what differs
            in rounding alone ends elsewhere. None without such steps, for a tangent that was zero
            or is not finite, and in reverse mode.
        sign_agreement: Share of other trajectories, which differ in rounding, whose hypergradient
            has the same sign. None where none were trained, and for one that is not finite.
        t_statistic: Its mean over several trajectories (other weights, order and split each) over
            the standard error of that mean. None with one trajectory, and where one of them has no
            finite number.
    """

    signal_to_noise: float | None
    clipped_gradients: float
    clipped_products: float | None
    not_finite: int
    not_finite_step: int | None
    growth: float | None = None
    sign_agreement: float | None = None
    t_statistic: float | None = None


class Diagnostics(NamedTuple):
    """Counts so far.

    Attributes:
        steps: Inner steps taken.
        clipped_gradients: Scalar; sum over the steps of the share of entries that `c_g` touched.
        clipped_products: `(N,)`; the same for `c_HZ` and each row's Hessian products.
        products: For each row, how many products it had.
        finite: `(N,)`; for each row, after how many steps it was still finite.
        sizes: `(N,)`; for each row, its largest magnitude after the last step that its coefficient
            was used at.
        used: For each row, how many steps there had been then.
    """

    steps: int
    clipped_gradients: Tensor
    clipped_products: Tensor
    products: tuple[int, ...]
    finite: Tensor
    sizes: Tensor
    used: tuple[int, ...]

    @classmethod
    def start(cls, theta: Tensor, count: int) -> "Diagnostics":
        """Return the counts of `count` rows before the first step, beside `theta`."""
        zeros = torch.zeros(count, dtype=widest(theta.device), device=theta.device)
        never = (0,) * count
        return cls(0, zeros.new_zeros(()), zeros, never, zeros.clone(), zeros.clone(), never)

    def after(
        self,
        Z: Tensor,
        live: tuple[int, ...],
        clipped: Tensor,
        touched: Tensor,
        used: Collection[int] = (),
    ) -> "Diagnostics":
        """Return the diagnostics after one more step.

        Args:
            Z: `(N, D)` tangents after the step.
            live: Rows that had a Hessian product.
            clipped: Scalar, share of the gradient's entries that `c_g` touched.
            touched: `(len(live),)`, the same for `c_HZ` and the products.
            used: Rows whose coefficients the step's values depended on.

        Returns:
            The new counts.
        """
        clipped_products = self.clipped_products
        if live:
            clipped_products = clipped_products.clone()
            rows = spans(live)
            shares = touched.split([span.stop - span.start for span in rows])
            for span, share in zip(rows, shares, strict=True):
                clipped_products[span] += share
        # The largest entry, not the length: no square overflows.
        largest, sizes = Z.abs().amax(dim=1), self.sizes
        if used:
            sizes = sizes.clone()
            for span in spans(sorted(set(used))):
                sizes[span] = largest[span]
        return self.counted(live, used)._replace(
            clipped_gradients=self.clipped_gradients + clipped,
            clipped_products=clipped_products,
            finite=self.finite + largest.isfinite(),
            sizes=sizes,
        )

    def counted(self, live: Collection[int], used: Collection[int] = ()) -> "Diagnostics":
        """Return the diagnostics with one more step: what the host counts of it.

        Args:
            live: Rows that had a Hessian product.
            used: Rows whose coefficients the step's values depended on.
        """
        steps = self.steps + 1
        return self._replace(
            steps=steps,
            products=tuple(n + (row in live) for row, n in enumerate(self.products)),
            used=tuple(steps if row in used else n for row, n in enumerate(self.used)),
        )

    def growth(self, Z: Tensor) -> list[float | None]:
        """Return how fast each row has grown since its coefficient was last used.

        Args:
            Z: `(N, D)` tangents now.

        Returns:
            Natural logarithms of growth a step, as `HypergradientDiagnostics.growth`.
        """
        largest = Z.abs().amax(dim=1).tolist()
        return [
            _rate(before, after, self.steps - used)
            for before, after, used in zip(self.sizes.tolist(), largest, self.used, strict=True)
        ]

    def summary(self, Z: Tensor, samples: Tensor) -> tuple[HypergradientDiagnostics, ...]:
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
            self.growth(Z),
            strict=True,
        )
        return tuple(
            HypergradientDiagnostics(
                ratio,
                share,
                clipped / products if products else None,
                not_finite,
                finite if finite < self.steps else None,
                growth,
            )
            for ratio, clipped, products, not_finite, finite, growth in rows
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that a step changes, by name."""
        return {
            "clipped_gradients": self.clipped_gradients,
            "clipped_products": self.clipped_products,
            "finite": self.finite,
            "sizes": self.sizes,
        }


def _rate(before: float, after: float, steps: int) -> float | None:
    known = steps > 0 and all(size > 0 and math.isfinite(size) for size in (before, after))
    return (math.log(after) - math.log(before)) / steps if known else None


def signal_to_noise(samples: Tensor, batches: Sequence[int] = ()) -> list[float | None]:
    """Return the signal-to-noise ratio of each hypergradient over validation batches.

    Args:
        samples: `(K, N)`, hypergradients from `K` disjoint chunks of the validation data.
        batches: Validation batches in each chunk, one each unless given. The noise is stated for
            one batch: `sum_k b_k (h_k - h)^2 / (K - 1)`, `h` the mean over all batches.

    Returns:
        `N` ratios; None where there is no noise to compare with, or anything is not finite.

    >>> signal_to_noise(torch.tensor([[1.0, 2.0], [3.0, 2.0]], dtype=torch.float64))
    [1.414213562373095, None]
    """
    if len(samples) < 2:
        return [None] * samples.shape[1]
    weights = samples.new_tensor(batches or [1] * len(samples))[:, None]
    mean = (weights * samples).sum(dim=0) / weights.sum()
    noise = ((weights * (samples - mean) ** 2).sum(dim=0) / (len(samples) - 1)).sqrt()
    dust = 4 * torch.finfo(samples.dtype).eps * mean.abs()  # what equal samples differ by
    known = noise.isfinite() & (noise > dust)
    ratios = (mean.abs() / noise).tolist()
    return [ratio if sure else None for ratio, sure in zip(ratios, known.tolist(), strict=True)]
