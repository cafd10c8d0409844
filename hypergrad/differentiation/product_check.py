"""Whether Hessian products are derivatives of the gradient, and each strategy's those of `loop`."""

from collections.abc import Callable

import torch
from torch import Tensor

from hypergrad.core.batches import cast_floating, example_count, first_examples
from hypergrad.core.double_precision import has_float64
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer
from hypergrad.core.limits import is_out_of_memory, known_limit
from hypergrad.core.training_step import micro_batches
from hypergrad.curvature import gradient, gradient_and_multiplier
from hypergrad.curvature.agreement import PRODUCTS, relative_error
from hypergrad.differentiation.blame import layer_at_fault
from hypergrad.differentiation.gradient_differences import (
    compare_with_differences,
    probe,
    product_by,
)
from hypergrad.differentiation.tested_problem import TestedProblem, reseed

__all__ = ["check_products"]

EXAMPLES = 32  # of a minibatch, at most half of it: float64 takes twice the time


def check_products(problem: TestedProblem, strategy: str | None) -> list[str]:
    """Refuse products that are not the derivative of the gradient, or that a strategy gets wrong.

    Args:
        problem: In the precision of its run.
        strategy: How the run computes products; None for reverse mode.

    Returns:
        What could not be told.

    Raises:
        ValueError: With the layer at fault.
    """
    precise = torch.float64
    remarks: list[str] = []
    if not has_float64(problem.theta.device):
        remarks.append(f"not tried in float64: {problem.theta.device.type} has none")
    elif problem.theta.dtype != precise:
        try:
            remarks += _check_in(problem, strategy, precise)
        except RuntimeError as error:  # a network may insist on its precision
            remarks.append(f"not tried in float64: {str(error).splitlines()[0][:80]}")
    return remarks + _check_in(problem, strategy, problem.theta.dtype)


def _check_in(problem: TestedProblem, strategy: str | None, dtype: torch.dtype) -> list[str]:
    model, theta, batch, optimizer, _, values = problem
    batch = micro_batches(batch)[0]
    some = first_examples(batch, max(1, min(EXAMPLES, example_count(batch) // 2)))
    model = model if dtype == theta.dtype else model.to(dtype)
    flat = torch.cat([value.reshape(-1) for value in values.values()]) if values else theta[:0]
    point = torch.cat([theta, flat]).to(dtype)
    loss = _pure(model, cast_floating(some, dtype), optimizer, len(theta))
    # What is computed under no_grad is not differentiated again, but by forward derivatives.
    reference = "vmap" if strategy == "vmap" else "loop"
    Z = _moved(loss, point, probe(point))

    def fault() -> str:
        if not has_float64(point.device):  # layers are judged in it
            return "the network"
        moving = point.clone().requires_grad_()  # tells weights from constants
        return layer_at_fault(model.net, lambda: loss(moving), reference) or "the loss"

    try:
        HZ = product_by(loss, point, Z, reference)
    except RuntimeError as error:
        reason = known_limit(error)
        if reason is None or is_out_of_memory(error):
            raise
        how = "by strategy vmap" if reference == "vmap" else "twice"
        raise ValueError(f"{fault()} cannot be differentiated {how} ({reason})") from error
    remarks = []
    if dtype == torch.float64:
        verdict = compare_with_differences(loss, point, HZ, Z)
        if verdict.is_wrong:
            raise ValueError(
                f"the second derivative of {fault()} is wrong: a Hessian product is off by "
                f"{verdict.error:.2g} (relative) from differences of gradients; PyTorch does not "
                "see what is detached, computed under no_grad, or differentiated by a formula that "
                "is right once only: write it in plain operations"
            )
        _check_validation(problem, model, cast_floating(some, dtype))
        if verdict.is_unknown:
            remarks.append("differences of gradients are too rough to judge a product")
    error = relative_error(_by(loss, point, Z, strategy), HZ)
    if error > PRODUCTS[dtype]:
        how = "reverse mode" if strategy is None else f"strategy {strategy}"
        raise ValueError(
            f"{how} gives another Hessian product than the plain loop (relative error "
            f"{error:.2g} in {dtype}): use strategy='loop'"
        )
    return remarks


def _moved(loss: Callable[[Tensor], Tensor], point: Tensor, Z: Tensor) -> Tensor:
    """The directions in which anything moves: tangents have zeros where gradients have."""
    moves = gradient(loss, point) != 0
    return Z * moves if bool(moves.any()) else Z


def _check_validation(problem: TestedProblem, model: FlatModel, batch: Batch) -> None:
    """Refuse a validation loss whose gradient is not its derivative, however it is trained."""
    if model.objective.validation_loss is not None:
        return  # it may want other batches
    theta, buffers = problem.theta.to(torch.float64), model.buffers()

    def loss(point: Tensor) -> Tensor:
        reseed()
        return model.validation_loss(point, batch, buffers)

    z = _moved(loss, theta, probe(theta))[0]
    scale = float(theta.square().mean().sqrt()) or 1.0
    slope = float(gradient(loss, theta) @ z)
    with torch.no_grad():
        found = []
        for step in (1e-4 * scale, 1e-5 * scale):
            found.append(
                float((loss(theta + step * z) - loss(theta - step * z)).detach()) / (2 * step)
            )
    size = max(abs(found[1]), abs(slope))
    rough = abs(found[1] - found[0]) + 1e-9 * abs(float(loss(theta).detach()))
    if abs(found[1] - slope) > max(1e-5 * size, 10 * rough):
        raise ValueError(
            f"the gradient of the validation loss of {type(model.module).__name__} is off by "
            f"{abs(found[1] - slope) / size:.2g} (relative) from differences of the loss: some of "
            "it is detached, computed under no_grad, or has a gradient of its own"
        )


def _by(loss: Callable[[Tensor], Tensor], point: Tensor, Z: Tensor, how: str | None) -> Tensor:
    if how is None:
        _, multiply = gradient_and_multiplier(loss, point)
        return multiply(Z)
    return product_by(loss, point, Z, how)


def _pure(
    model: FlatModel, batch: Batch, optimizer: BoundOptimizer, size: int
) -> Callable[[Tensor], Tensor]:
    buffers = model.buffers()

    def loss(point: Tensor) -> Tensor:
        reseed()
        return model.loss(point[:size], batch, buffers, optimizer.named(point[size:]))

    return loss
