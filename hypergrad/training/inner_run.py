"""Inner runs, one step at a time, so that a driver can watch, pause, save and resume them.

`ScheduledRun` only trains; those of `differentiated_run` find the hypergradients of their schedule
too, and that of `hypergradient_descent` updates its values online. Everything random is a pure
function of a key and the step, so a run's position is a number.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.schedule import Schedule, StepValues
from hypergrad.core.sgd import InnerState, add_scores, train_step
from hypergrad.data import Minibatches
from hypergrad.training.graphed_step import Replay

__all__ = ["InnerRun", "ScheduledRun"]


class InnerRun:
    """What all kinds of inner run share: position, weights, and running sums.

    Args:
        model: The network and its loss.
        theta: `(D,)` initial parameters.
        minibatches: Training data.
        epochs: The horizon, in epochs.
    """

    def __init__(
        self, model: FlatModel, theta: Tensor, minibatches: Minibatches, epochs: int
    ) -> None:
        self.model = model
        self.minibatches = minibatches
        self.horizon = epochs * minibatches.steps_per_epoch
        self.step = 0
        self.state = InnerState.start(theta, model.buffers())
        self._sums = torch.zeros(2, dtype=torch.float64, device=theta.device)
        self._count = 0

    @property
    def epoch(self) -> float:
        """Epochs completed."""
        return self.step / self.minibatches.steps_per_epoch

    @property
    def done(self) -> bool:
        """Whether the horizon is reached."""
        return self.step >= self.horizon

    @property
    def values(self) -> StepValues:
        """The values that the last step used."""
        raise NotImplementedError

    def advance(self) -> None:
        """Take one inner step."""
        batch = self.minibatches.at(self.step)
        self._go(batch)
        self._count += len(batch[1])
        self.step += 1

    def take_means(self) -> tuple[float, float]:
        """Return mean training loss and accuracy since the last call, and start anew."""
        loss, accuracy = self._take_means().tolist()
        return loss, accuracy

    def is_finite(self) -> bool:
        """Whether every parameter is a finite number."""
        return bool(self.state.theta.isfinite().all())

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that `restore` needs: tensors, and values that fit JSON."""
        theta, v, buffers = self.state
        tensors = {"theta": theta, "v": v, "sums": self._sums}
        tensors |= {f"buffer.{name}": value for name, value in buffers.items()}
        copies = {name: value.clone() for name, value in tensors.items()}
        return copies, {"step": self.step, "count": self._count}

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot, on the device of the parameters that the run started with."""
        device = self.state.theta.device
        moved = {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}
        buffers = {
            name.removeprefix("buffer."): tensor
            for name, tensor in moved.items()
            if name.startswith("buffer.")
        }
        self.state = InnerState(moved["theta"], moved["v"], buffers)
        self._sums = moved["sums"]
        step, count = scalars["step"], scalars["count"]
        assert isinstance(step, int)
        assert isinstance(count, int)
        self.step, self._count = step, count

    def take_losses(self) -> list[float]:
        """Return the mean training loss of every model in the run, as `take_means` does of one."""
        return self._take_means()[..., 0].reshape(-1).tolist()

    def _take_means(self) -> Tensor:
        means = self._sums / max(self._count, 1)
        self._sums.zero_()
        self._count = 0
        return means

    def _go(self, batch: Batch) -> None:
        """Take the step on a minibatch, and add up its scores."""
        loss, predictions = self._take(batch)
        add_scores(self._sums, loss, predictions, batch[1])

    def _take(self, batch: Batch) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class ScheduledRun(InnerRun):
    """Train with a given schedule.

    Args:
        model: The network and its loss.
        theta: `(D,)` initial parameters.
        minibatches: Training data.
        epochs: The horizon, in epochs; the windows of the schedule stretch to it.
        schedule: The values.
        clip_gradient: `c_g`, or None.
        replay: Takes the steps on tensors of its own, which the run before it leaves to this one.
    """

    def __init__(
        self,
        model: FlatModel,
        theta: Tensor,
        minibatches: Minibatches,
        epochs: int,
        schedule: Schedule,
        clip_gradient: float | None,
        replay: Replay | None = None,
    ) -> None:
        super().__init__(model, theta, minibatches, epochs)
        self._schedule = schedule
        self._clip = clip_gradient
        self._replay = replay
        self._settle_in()

    @property
    def values(self) -> StepValues:
        """The values that the last step used."""
        return self._schedule.at(max(self.step - 1, 0), self.horizon)

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot."""
        super().restore(tensors, scalars)
        self._settle_in()

    def _settle_in(self) -> None:
        """Move to the tensors that steps are replayed on, if they are."""
        if self._replay is not None:
            self.state, self._sums = self._replay.place(self.state, self._sums)

    def _go(self, batch: Batch) -> None:
        if self._replay is None:
            super()._go(batch)
            return
        assert self._replay.state is self.state, "another run has taken the tensors over"
        self._replay.train(batch, self._schedule.at(self.step, self.horizon), self._clip)

    def _take(self, batch: Batch) -> tuple[Tensor, Tensor]:
        values = self._schedule.at(self.step, self.horizon)
        self.state, loss, predictions = train_step(
            self.model, self.state, batch, values, self._clip
        )
        return loss, predictions
