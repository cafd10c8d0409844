"""What the checks of the start-up test are given, and what they share."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.double_precision import widened
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer
from hypergrad.core.module_copy import called
from hypergrad.core.schedule import Schedule

__all__ = ["TestedProblem", "called_buffer", "is_close", "reseed"]


class TestedProblem(NamedTuple):
    """A problem at its start, on a copy of the model of the test's own.

    Attributes:
        model: The network and its loss.
        theta: `(D,)` initial parameters.
        batch: A minibatch of the training.
        optimizer: The inner optimiser.
        schedule: Gives the form of the values.
        values: Of the loss's hyperparameters.
    """

    __test__ = False  # for pytest: no test of its own

    model: FlatModel
    theta: Tensor
    batch: Batch
    optimizer: BoundOptimizer
    schedule: Schedule
    values: Mapping[str, Tensor]


def reseed() -> None:
    """Let the next evaluation draw the same random numbers as the last one."""
    torch.manual_seed(0)


def is_close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether two tensors agree to a relative tolerance; NaN agrees with NaN."""
    if tolerance == 0 or not one.is_floating_point():
        return bool(((one == other) | (one != one) & (other != other)).all())
    a, b = widened(one.detach()), widened(other.detach())
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * 1e-3, equal_nan=True)


def called_buffer(model: FlatModel, buffer: str) -> str:
    """Return what to call a buffer: its name, and its layer."""
    name, _, own = buffer.rpartition(".")
    layer = dict(model.module.named_modules()).get(name, model.module)
    return f"the buffer {own!r} of {called(model.module, layer)}"
