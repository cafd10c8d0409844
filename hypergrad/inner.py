"""Inner runs, one step at a time, so that a driver can watch, pause, save and resume them.

Three ways to go through the same loop: `ForwardRun` carries tangents along, `GreedyRun` updates its
values online, `ScheduledRun` only trains. Everything random is a pure function of a key and the
step, so a run's position is a number.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from hypergrad.data import Augmentation, Epoch, Images
from hypergrad.flat import FlatModel
from hypergrad.forward import (
    ForwardOptions,
    Hypergradients,
    Tangents,
    averaged,
    check_strategy,
    contributing_steps,
    forward_step,
    validation_gradient,
)
from hypergrad.greedy import greedy_step
from hypergrad.schedule import KINDS, Schedule, StepValues
from hypergrad.schema import GreedyConfig
from hypergrad.sgd import InnerState
from hypergrad.training import train_step

__all__ = ["ForwardRun", "GreedyRun", "InnerRun", "Minibatches", "ScheduledRun"]

Batch = tuple[Tensor, Tensor]


class Minibatches:
    """The minibatch of any inner step, in random access.

    Args:
        data: Training images, on the compute device.
        batch_size: Images in a minibatch; at most all of them.
        key: Names the stream; epoch `e` is shuffled by `(*key, e)`.
        augment: Random crop and flip, or None.
    """

    def __init__(
        self,
        data: Images,
        batch_size: int,
        key: tuple[int | str, ...],
        augment: Augmentation | None = None,
    ) -> None:
        self._data = data
        self._batch_size = batch_size
        self._key = key
        self._augment = augment
        self._number, self._epoch = 0, self._make(0)

    @property
    def steps_per_epoch(self) -> int:
        """Full minibatches in an epoch; the incomplete one is dropped."""
        return len(self._epoch)

    def at(self, step: int) -> Batch:
        """Return the (images, labels) of 0-based inner step `step`."""
        number, index = divmod(step, self.steps_per_epoch)
        if number != self._number:
            self._number, self._epoch = number, self._make(number)
        return self._epoch[index]

    def _make(self, number: int) -> Epoch:
        key = (*self._key, number)
        return Epoch(self._data, self._batch_size, key=key, augment=self._augment)


class InnerRun:
    """What the three kinds of inner run share: position, weights, and running sums.

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
        loss, predictions = self._take(batch)
        correct = (predictions.argmax(1) == batch[1]).sum()
        self._sums += torch.stack([loss.double() * len(batch[1]), correct.double()])
        self._count += len(batch[1])
        self.step += 1

    def take_means(self) -> tuple[float, float]:
        """Return mean training loss and accuracy since the last call, and start anew."""
        loss, accuracy = (self._sums / max(self._count, 1)).tolist()
        self._sums.zero_()
        self._count = 0
        return loss, accuracy

    def is_finite(self) -> bool:
        """Whether every parameter is a finite number."""
        return bool(self.state.theta.isfinite().all())

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that `restore` needs: tensors, and values that fit JSON."""
        tensors = {"theta": self.state.theta, "v": self.state.v, "sums": self._sums}
        tensors |= {f"buffer.{name}": value for name, value in self.state.buffers.items()}
        return tensors, {"step": self.step, "count": self._count}

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot, on the device of the parameters that the run started with."""
        device = self.state.theta.device
        moved = {name: tensor.to(device) for name, tensor in tensors.items()}
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
    """

    def __init__(
        self,
        model: FlatModel,
        theta: Tensor,
        minibatches: Minibatches,
        epochs: int,
        schedule: Schedule,
        clip_gradient: float | None,
    ) -> None:
        super().__init__(model, theta, minibatches, epochs)
        self._schedule = schedule
        self._clip = clip_gradient

    @property
    def values(self) -> StepValues:
        """The values that the last step used."""
        return self._schedule.at(max(self.step - 1, 0), self.horizon)

    def _take(self, batch: Batch) -> tuple[Tensor, Tensor]:
        values = self._schedule.at(self.step, self.horizon)
        self.state, loss, predictions = train_step(
            self.model, self.state, batch, values, self._clip
        )
        return loss, predictions


class ForwardRun(ScheduledRun):
    """Train with a schedule and carry its tangents along.

    Args:
        model: The network and its loss.
        theta: `(D,)` initial parameters.
        minibatches: Training data.
        epochs: The horizon, in epochs.
        schedule: The values.
        options: Clipping, truncation, strategy.
    """

    def __init__(
        self,
        model: FlatModel,
        theta: Tensor,
        minibatches: Minibatches,
        epochs: int,
        schedule: Schedule,
        options: ForwardOptions,
    ) -> None:
        check_strategy(model, options.strategy)
        super().__init__(model, theta, minibatches, epochs, schedule, options.clip_gradient)
        self._options = options
        self.contributing = contributing_steps(schedule, self.horizon, options.truncation)
        self._tangents = Tangents.start(theta, len(self.contributing))

    def hypergradients(self, validation: Iterable[Batch]) -> Hypergradients:
        """Return the hypergradients of the validation loss at the weights reached.

        Args:
            validation: Batches of validation data.

        Returns:
            One averaged hypergradient a value, its contributing steps, and the inner state.
        """
        g = validation_gradient(self.model, self.state.theta, validation, self.state.buffers)
        values = averaged(self._tangents, g, self.contributing)
        return Hypergradients(values, self.contributing, self.state)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that `restore` needs: tensors, and values that fit JSON."""
        tensors, scalars = super().snapshot()
        tensors |= {"Z": self._tangents.Z, "C": self._tangents.C}
        return tensors, scalars | {"reached": list(self._tangents.reached)}

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot."""
        super().restore(tensors, scalars)
        device = self.state.theta.device
        reached = scalars["reached"]
        assert isinstance(reached, list)
        self._tangents = Tangents(tensors["Z"].to(device), tensors["C"].to(device), tuple(reached))

    def _take(self, batch: Batch) -> tuple[Tensor, Tensor]:
        self.state, self._tangents, loss, predictions = forward_step(
            self.model,
            self.state,
            self._tangents,
            batch,
            self._schedule,
            self.step,
            self.horizon,
            self._options,
        )
        return loss, predictions


class GreedyRun(InnerRun):
    """Hypergradient descent from all-zero values; `history` keeps what each step used and found.

    Args:
        model: The network and its loss.
        theta: `(D,)` initial parameters.
        minibatches: Training data.
        epochs: The horizon, in epochs.
        validation: Validation data, one minibatch a step.
        settings: Outer learning rate and clip.
        clip_gradient: `c_g`, or None.
    """

    def __init__(
        self,
        model: FlatModel,
        theta: Tensor,
        minibatches: Minibatches,
        epochs: int,
        validation: Minibatches,
        settings: GreedyConfig,
        clip_gradient: float | None,
    ) -> None:
        super().__init__(model, theta, minibatches, epochs)
        self._validation = validation
        self._settings = settings
        self._clip = clip_gradient
        self._used = self._next = (0.0, 0.0, 0.0)
        self._history: list[dict[str, float | int]] = []

    @property
    def values(self) -> StepValues:
        """The values that the last step used."""
        return StepValues(*self._used, indices=(0, 0, 0))

    def take_history(self) -> list[dict[str, float | int]]:
        """Return rows of `greedy.csv` (without the seed) since the last call."""
        rows, self._history = self._history, []
        return rows

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that `restore` needs; take the history first."""
        assert not self._history
        tensors, scalars = super().snapshot()
        return tensors, scalars | {"used": list(self._used), "next": list(self._next)}

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot."""
        super().restore(tensors, scalars)
        self._used, self._next = (_three(scalars[name]) for name in ("used", "next"))

    def _take(self, batch: Batch) -> tuple[Tensor, Tensor]:
        taken = greedy_step(
            self.model,
            self.state,
            self._next,
            batch,
            self._validation.at(self.step),
            learning_rate=self._settings.learning_rate,
            clip=self._settings.clip,
            clip_gradient=self._clip,
        )
        self._used, self._next = self._next, taken.values
        row: dict[str, float | int] = {
            "step": self.step,
            "epoch": self.step / self.minibatches.steps_per_epoch,
        }
        row |= dict(zip(KINDS, self._used, strict=True))
        row |= {
            f"{name}_hypergradient": h for name, h in zip(KINDS, taken.hypergradients, strict=True)
        }
        self._history.append(row)
        self.state = taken.state
        return taken.loss, taken.predictions


def _three(values: object) -> tuple[float, float, float]:
    assert isinstance(values, list)
    a, b, c = values
    return float(a), float(b), float(c)
