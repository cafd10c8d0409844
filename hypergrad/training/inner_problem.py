"""What an inner run trains: everything but the hyperparameters."""

from typing import NamedTuple

from torch import Tensor

from hypergrad.core.functional_model import FlatModel
from hypergrad.data import Minibatches

__all__ = ["InnerProblem"]


class InnerProblem(NamedTuple):
    """A training run whose learning rates, momenta and weight decays are still open.

    Attributes:
        model: The network and its loss.
        theta: `(D,)` initial parameters.
        minibatches: The minibatch of every inner step.
        horizon: `T`, inner steps.
        clip_gradient: `c_g`, elementwise limit on the training gradient, or None.
    """

    model: FlatModel
    theta: Tensor
    minibatches: Minibatches
    horizon: int
    clip_gradient: float | None = None

    @classmethod
    def over_epochs(
        cls,
        model: FlatModel,
        theta: Tensor,
        minibatches: Minibatches,
        epochs: int,
        clip_gradient: float | None = None,
    ) -> "InnerProblem":
        """Return the problem whose horizon is so many epochs."""
        horizon = epochs * minibatches.steps_per_epoch
        return cls(model, theta, minibatches, horizon, clip_gradient)
