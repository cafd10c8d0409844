"""What an inner run trains: everything but the values of its hyperparameters."""

from typing import NamedTuple

from torch import Tensor

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.data import Batches

__all__ = ["InnerProblem"]


class InnerProblem(NamedTuple):
    """A training run whose hyperparameters have no values yet.

    Attributes:
        model: The network and its loss.
        theta: `(D,)` initial parameters.
        minibatches: The minibatch of every inner step.
        horizon: `T`, inner steps.
        optimizer: The inner optimiser.
    """

    model: FlatModel
    theta: Tensor
    minibatches: Batches
    horizon: int
    optimizer: InnerOptimizer = InnerOptimizer()

    @classmethod
    def over_epochs(
        cls,
        model: FlatModel,
        theta: Tensor,
        minibatches: Batches,
        epochs: int,
        optimizer: InnerOptimizer = InnerOptimizer(),  # noqa: B008 (frozen)
    ) -> "InnerProblem":
        """Return the problem whose horizon is so many epochs."""
        horizon = epochs * minibatches.steps_per_epoch
        return cls(model, theta, minibatches, horizon, optimizer)
