"""The start-up test: whether what is differentiated is the user's own training.

Before the first step of a problem, in its own precision and by its own strategy: evaluations that
must repeat; an ordinary loop with the plain module and `torch.optim`, step for step beside the
functional one; one Hessian product against differences of gradients; the strategy's product against
the plain one. It costs some twenty gradients of a minibatch, once a problem. What fails is refused
with the name of the layer that causes it.
"""

import time
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer
from hypergrad.core.limits import is_out_of_memory
from hypergrad.core.schedule import Schedule
from hypergrad.differentiation.product_check import check_products
from hypergrad.differentiation.repeat_check import (
    check_connected,
    check_feedback,
    check_repeatable,
)
from hypergrad.differentiation.tested_problem import TestedProblem
from hypergrad.differentiation.training_check import GRADIENTS, check_training

__all__ = ["SelfTest", "self_test"]


class SelfTest(NamedTuple):
    """What the start-up test has found; all of it is right, or it would have been refused.

    Attributes:
        passed: What was compared.
        remarks: What could not be told, and why.
        seconds: What it took.
    """

    passed: tuple[str, ...]
    remarks: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        rest = "".join(f"; {remark}" for remark in self.remarks)
        return f"start-up test: {', '.join(self.passed)} ({self.seconds:.1f} s){rest}"


def self_test(
    model: FlatModel,
    theta: Tensor,
    batch: Batch,
    optimizer: BoundOptimizer,
    schedule: Schedule,
    strategy: str | None,
) -> SelfTest:
    """Test a problem, once: the model remembers what was found.

    Args:
        model: The network and its loss.
        theta: `(D,)` initial parameters.
        batch: A minibatch of the training.
        optimizer: The inner optimiser.
        schedule: Gives the form of the values; learning rates are the test's own.
        strategy: How Hessian products are computed in forward mode; None for reverse mode.

    Raises:
        ValueError: For whatever does not agree, with the layer that causes it and the remedy.
    """
    key = (strategy, theta.dtype, theta.device, optimizer.rule.name, tuple(schedule))
    if key in model.tested:
        found = model.tested[key]
        assert isinstance(found, SelfTest)
        return found
    began = time.perf_counter()
    own = FlatModel(model.module, model.objective)
    given = optimizer.given(schedule, 0, max(len(schedule.flat), 1))
    values = optimizer.named(optimizer.step_values(given, theta).loss)
    problem = TestedProblem(own, theta, batch, optimizer, schedule, values)
    devices = [theta.device] if theta.is_cuda else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        _check_type(problem)
        try:
            check_connected(problem)
            check_repeatable(problem)
            check_feedback(problem)
            remarks = check_training(problem)
            remarks += check_products(problem, strategy)
        except RuntimeError as error:
            if is_out_of_memory(error):  # no fault of the network
                raise
            how = "reverse mode" if strategy is None else f"strategy {strategy}"
            raise ValueError(
                f"{type(own.module).__name__} cannot be differentiated by {how}: "
                f"{str(error).splitlines()[0]}"
            ) from error
    passed = ("repeats", "as torch.optim trains", "products as differences")
    result = SelfTest(passed, tuple(remarks), time.perf_counter() - began)
    model.tested[key] = result
    return result


def _check_type(problem: TestedProblem) -> None:
    dtype = problem.theta.dtype
    if dtype not in GRADIENTS:
        raise ValueError(
            f"the parameters are {dtype}, and so would their tangents be, which is too coarse: "
            "keep the parameters in float32 and switch autocast on inside the loss"
        )
