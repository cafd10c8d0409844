"""Hessian products in lower precision than the training.

Only `H Z` is touched: weights, gradient and recursion keep their precision, so that training is
what it would be without tangents.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from hypergrad.core.batches import cast_floating, first_examples
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.limits import is_out_of_memory
from hypergrad.core.training_step import micro_batches
from hypergrad.curvature import gradient_and_products

__all__ = [
    "PRECISIONS",
    "check_precision",
    "in_precision",
    "products_in_precision",
    "tensor_cores",
    "true_float32",
]

PRECISIONS = ("tf32", "bfloat16")


def in_precision(
    model: FlatModel, theta: Tensor, batch: Batch, precision: str | None
) -> tuple[FlatModel, Tensor, Batch]:
    """Return the network, parameters and batch that products are computed with.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters.
        batch: A minibatch.
        precision: As in `ForwardOptions`.

    Returns:
        The same, in bfloat16 where that is asked for.
    """
    if precision != "bfloat16":
        return model, theta, batch
    dtype = torch.bfloat16
    return model.to(dtype), theta.to(dtype), cast_floating(batch, dtype)


def products_in_precision(
    model: FlatModel,
    theta: Tensor,
    Z: Tensor,
    batch: Batch,
    buffers: dict[str, Tensor],
    strategy: str,
    precision: str | None,
) -> Tensor:
    """Return the products with the Hessian of the loss.

    In bfloat16 network, images and tangents are cast, which every strategy and device can take;
    autocast leaves some operations to mixed types that they cannot.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters.
        Z: `(N, D)`, one tangent a row, `N > 0`.
        batch: A minibatch.
        buffers: What layers keep in buffers; not changed.
        strategy: One of `curvature.STRATEGIES`.
        precision: As in `ForwardOptions`.

    Returns:
        `(N, D)` products in the precision of `Z`.
    """
    low, point, batch = in_precision(model, theta, batch, precision)
    kept = {
        name: buffer.to(point.dtype) if buffer.is_floating_point() else buffer
        for name, buffer in buffers.items()
    }
    with tensor_cores() if precision == "tf32" else nullcontext():
        HZ = gradient_and_products(
            lambda point: low.loss(point, batch, kept), point, Z.to(point.dtype), strategy
        )[1]
    return HZ.to(Z.dtype)


def _switches() -> list[tuple[object, str, dict[str, object]]]:
    """Where CUDA's float32 of matrix products and of convolutions is set: place, name, values."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        modes = {"ieee": "ieee", "tf32": "tf32"}
        return [(place, "fp32_precision", modes) for place in (matmul, cudnn.conv)]  # type: ignore
    # Before PyTorch 2.9.
    return [(place, "allow_tf32", {"ieee": False, "tf32": True}) for place in (matmul, cudnn)]


@contextmanager
def _float32_as(mode: str) -> Iterator[None]:
    switches = _switches()
    before = [getattr(place, name) for place, name, _ in switches]
    try:
        for place, name, modes in switches:
            setattr(place, name, modes[mode])
        yield
    finally:
        for (place, name, _), value in zip(switches, before, strict=True):
            setattr(place, name, value)


def true_float32() -> AbstractContextManager[None]:
    """Compute float32 in float32 on CUDA too, for a while.

    For programs, not for libraries: PyTorch's own default rounds what enters a convolution to
    TF32, for everything in the process.
    """
    return _float32_as("ieee")


def tensor_cores() -> AbstractContextManager[None]:
    """Let CUDA round what enters float32 matrix products and convolutions to TF32, for a while."""
    return _float32_as("tf32")


def check_precision(
    model: FlatModel, theta: Tensor, batch: Batch, strategy: str, precision: str | None
) -> None:
    """Refuse products that cannot be had, or would be wrong rather than inexact.

    Args:
        model: The network and its loss.
        theta: `(D,)` parameters, on the device and in the precision of the run.
        batch: A minibatch of the training, two of whose examples are tried.
        strategy: As in `ForwardOptions`.
        precision: Likewise; None is always possible.

    Raises:
        ValueError: For random numbers, tf32 without CUDA, a precision below that of a float64 run,
            or a network that does not work in bfloat16.
    """
    if precision is None:
        return
    if theta.dtype != torch.float32:
        raise ValueError(
            f"precision={precision!r} is for training in float32, not {theta.dtype}: "
            "use precision=None"
        )
    if precision == "tf32" and not theta.is_cuda:
        raise ValueError(
            "precision='tf32' needs a CUDA device: use precision='bfloat16' or precision=None"
        )
    if source := model.random_source(batch):
        raise ValueError(
            f"{source} draws random numbers, and Hessian products in {precision} would see others "
            "than the gradient: use precision=None"
        )
    two = first_examples(micro_batches(batch)[0], 2)
    how = "loop" if strategy == "auto" else strategy
    Z = torch.ones_like(theta)[None]
    try:
        products_in_precision(model, theta, Z, two, model.buffers(), how, precision)
    except (RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the network does not take Hessian products in {precision} ({reason}): "
            "use precision=None"
        ) from error
