"""Hessian products for less work than exact ones: on a part of the minibatch, in lower precision.

Only `H Z` is touched. The training gradient is that of the whole minibatch, and weights, gradient
and recursion keep their precision, so that training is what it would be without tangents.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from hypergrad.core.functional_model import FlatModel
from hypergrad.curvature import gradient_and_products

__all__ = [
    "PRECISIONS",
    "check_inexact",
    "inexact_products",
    "is_exact",
    "part_of",
    "reduced",
    "tensor_cores",
    "true_float32",
]

Batch = tuple[Tensor, Tensor]

PRECISIONS = ("tf32", "bfloat16")


def is_exact(batch_fraction: float, precision: str | None) -> bool:
    """Whether nothing is saved."""
    return batch_fraction == 1 and precision is None


def part_of(batch: Batch, fraction: float) -> Batch:
    """Return the first `round(fraction B)` examples of a minibatch, one at least.

    Minibatches are cut from an order drawn anew for every epoch, so that their first examples are a
    random part: one that depends on the key and the step alone, as the minibatch itself does.

    Args:
        batch: `(B, ...)` inputs and `(B,)` labels, in random order.
        fraction: In (0, 1].

    Returns:
        Views of both.

    >>> part_of((torch.zeros(10, 3), torch.arange(10)), 0.25)[1]
    tensor([0, 1])
    """
    x, y = batch
    count = max(1, round(fraction * len(y)))
    return x[:count], y[:count]


def reduced(
    model: FlatModel, theta: Tensor, batch: Batch, batch_fraction: float, precision: str | None
) -> tuple[FlatModel, Tensor, Batch]:
    """Return the network, parameters and batch that products are computed with.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters.
        batch: `(B, ...)` inputs and `(B,)` labels.
        batch_fraction: As in `ForwardOptions`.
        precision: Likewise.

    Returns:
        The same, of a part of the batch and in lower precision where that is asked for.
    """
    x, y = part_of(batch, batch_fraction)
    if precision != "bfloat16":
        return model, theta, (x, y)
    dtype = torch.bfloat16
    # An input of token numbers, say, stays as it is.
    return model.to(dtype), theta.to(dtype), (x.to(dtype) if x.is_floating_point() else x, y)


def inexact_products(
    model: FlatModel,
    theta: Tensor,
    Z: Tensor,
    batch: Batch,
    buffers: dict[str, Tensor],
    strategy: str,
    batch_fraction: float,
    precision: str | None,
) -> Tensor:
    """Return the products with the Hessian of the loss on a part of the batch.

    Normalisation uses the statistics of the part. In bfloat16 network, images and tangents are
    cast, which every strategy and device can take; autocast leaves some operations to mixed types
    that they cannot.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters.
        Z: `(N, D)`, one tangent a row, `N > 0`.
        batch: `(B, ...)` inputs and `(B,)` labels.
        buffers: What layers keep in buffers; not changed.
        strategy: One of `curvature.STRATEGIES`.
        batch_fraction: As in `ForwardOptions`.
        precision: Likewise.

    Returns:
        `(N, D)` products in the precision of `Z`.
    """
    low, point, (x, y) = reduced(model, theta, batch, batch_fraction, precision)
    kept = {
        name: buffer.to(point.dtype) if buffer.is_floating_point() else buffer
        for name, buffer in buffers.items()
    }
    with tensor_cores() if precision == "tf32" else nullcontext():
        HZ = gradient_and_products(
            lambda point: low.loss(point, x, y, kept), point, Z.to(point.dtype), strategy
        )[1]
    return HZ.to(Z.dtype)


def _places() -> tuple:
    """Where CUDA's precision of float32 matrix products and convolutions is set."""
    return torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]


def true_float32() -> None:
    """Let this process compute float32 in float32 on CUDA too.

    For programs, not for libraries: PyTorch's own default rounds what enters a convolution to
    TF32, for everything in the process.
    """
    for place in _places():
        place.fp32_precision = "ieee"


@contextmanager
def tensor_cores() -> Iterator[None]:
    """Let CUDA round what enters float32 matrix products and convolutions to TF32, for a while."""
    places = _places()
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "tf32"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision


def check_inexact(
    model: FlatModel,
    theta: Tensor,
    batch: Batch,
    strategy: str,
    batch_fraction: float,
    precision: str | None,
) -> None:
    """Refuse products that cannot be had, or would be wrong rather than inexact.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters, on the device and in the precision of the run.
        batch: A minibatch of the training, two of whose examples are tried.
        strategy: As in `ForwardOptions`.
        batch_fraction: Likewise.
        precision: Likewise.

    Raises:
        ValueError: For a part without examples, dropout, tf32 without CUDA, lower precision than
            that of a float64 run, or a network that does not take them (that does not work in
            bfloat16, say).
    """
    if is_exact(batch_fraction, precision):
        return
    examples = len(batch[1])
    if round(batch_fraction * examples) < 1:
        raise ValueError(
            f"batch_fraction={batch_fraction} of {examples} examples is none: use a larger "
            "part, or larger minibatches"
        )
    if model.has_dropout:
        raise ValueError(
            "the network has dropout, and inexact Hessian products would see another mask than the "
            "gradient: use hvp.batch_fraction=1 hvp.precision=null"
        )
    if precision is not None and theta.dtype != torch.float32:
        raise ValueError(
            f"hvp.precision={precision} is for runs in float32, not {theta.dtype}: use null"
        )
    if precision == "tf32" and not theta.is_cuda:
        raise ValueError("hvp.precision=tf32 needs a CUDA device: use bfloat16 or null")
    x, y = part_of(batch, batch_fraction)
    how = "loop" if strategy == "auto" else strategy
    Z = torch.ones_like(theta)[None]
    try:
        inexact_products(model, theta, Z, (x[:2], y[:2]), model.buffers(), how, 1.0, precision)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the network does not take inexact Hessian products ({reason}): use "
            "hvp.batch_fraction=1 hvp.precision=null"
        ) from error
