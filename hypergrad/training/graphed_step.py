"""Inner steps on tensors that stay where they are, so that a recording of them can be replayed.

A step takes its minibatch and its values from fixed tensors, changes weights, tangents and running
sums in place, and asks the host for nothing. Which rows of the tangents it touches is part of its
arithmetic: there is one recording a plan (`ActiveTangents`), of which a run has few.
"""

import itertools
import warnings
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.batches import MicroBatches, map_tensors
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer
from hypergrad.core.schedule import Value
from hypergrad.core.training_step import InnerState, add_scores, train_step
from hypergrad.differentiation.active_tangents import ActiveTangents
from hypergrad.differentiation.diagnostics import Diagnostics
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.recursion import Tangents, advance
from hypergrad.training.cuda_graph import Recorder

__all__ = ["REPLAY", "Ready", "Replay", "replay_for"]

REPLAY = ("auto", "always", "never")


class Ready(NamedTuple):
    """What a step finds: at fixed places, if it is replayed.

    Attributes:
        state: Weights, slots and buffers.
        batch: The minibatch.
        given: Values by name, on the device.
        step: Its number from 0, likewise.
    """

    state: InnerState
    batch: Batch
    given: Mapping[str, Tensor]
    step: int | Tensor


Take = Callable[[Ready], tuple[InnerState, Tensor, Tensor]]


class Replay:
    """The inner steps of one network, one inner run after another.

    Args:
        model: The network and its loss.
        recorder: Records the steps.

    Attributes:
        state: The fixed tensors of the run that was placed last.
    """

    def __init__(self, model: FlatModel, recorder: Recorder) -> None:
        self._model = model
        self._recorder = recorder
        self._fixed: dict[str, Tensor] = {}
        self._numbers: dict[str, Value] = {}
        self._optimizer: BoundOptimizer | None = None
        self.state: InnerState | None = None

    def place(
        self, state: InnerState, sums: Tensor, optimizer: BoundOptimizer
    ) -> tuple[InnerState, Tensor]:
        """Copy where a run is into fixed tensors.

        Args:
            state: Its weights, slots and buffers.
            sums: Its running sums of loss and score.
            optimizer: Its inner optimiser.

        Returns:
            The same, which every step changes in place; the run before must be over.
        """
        buffers = {name: self.fix(f"buffer.{name}", b) for name, b in state.buffers.items()}
        slots = tuple(self.fix(f"slot.{n}", slot) for n, slot in enumerate(state.slots))
        self.state = InnerState(self.fix("theta", state.theta), slots, buffers)
        if self._optimizer != optimizer:  # otherwise recordings know the masks of the old one
            self._optimizer = optimizer
            self._recorder.forget()
        self._numbers = {}
        return self.state, self.fix("sums", sums)

    def place_tangents(self, tangents: Tangents) -> Tangents:
        """Copy a run's tangents, and what has happened to them, into fixed tensors."""
        diagnostics = tangents.diagnostics
        fixed = {name: self.fix(name, tensor) for name, tensor in diagnostics.tensors().items()}
        S = tuple(self.fix(f"S.{n}", own) for n, own in enumerate(tangents.S))
        return tangents._replace(
            Z=self.fix("Z", tangents.Z), S=S, diagnostics=diagnostics._replace(**fixed)
        )

    def train(self, batch: Batch, given: Mapping[str, Value], number: int) -> None:
        """Take a plain training step.

        Args:
            batch: The minibatch.
            given: Values by the names of their hyperparameters.
            number: Of the step, from 0.
        """
        optimizer = self._optimizer
        assert optimizer is not None

        def take(ready: Ready) -> tuple[InnerState, Tensor, Tensor]:
            values = optimizer.step_values(ready.given, ready.state.theta)
            return train_step(self._model, ready.state, ready.batch, optimizer, values, ready.step)

        self.take("train", batch, given, number, take)

    def take(
        self,
        key: Hashable,
        batch: Batch,
        given: Mapping[str, Value | Tensor],
        number: int,
        take: Take,
    ) -> None:
        """Take a step of any kind.

        Args:
            key: Names all that is fixed in it; a step of another run that has the same key is
                replayed from this one.
            batch: The minibatch.
            given: What else changes from step to step, or from run to run, by name.
            number: Of the step, from 0.
            take: Returns the next state, losses and scores, from nothing but what it is given and
                what the key names. What it changes in place must come from `fix`.
        """
        ready, sums = self._ready(batch, given, number), self._fixed["sums"]

        def step() -> None:
            after, loss, score = take(ready)
            _move(ready.state, after)
            add_scores(sums, loss, score, ready.batch)

        self._recorder.run(key, step)

    def fix_batch(self, name: str, batch: Batch) -> Batch:
        """Copy a minibatch into the fixed tensors of that name, and return those."""
        place = itertools.count()

        def fix(tensor: Tensor) -> Tensor:
            return self.fix(f"{name}.{next(place)}", tensor)

        if isinstance(batch, MicroBatches):
            return MicroBatches(map_tensors(fix, micro) for micro in batch)
        return map_tensors(fix, batch)

    def forward(
        self,
        batch: Batch,
        given: Mapping[str, Value],
        number: int,
        rows: ActiveTangents,
        options: ForwardOptions,
    ) -> None:
        """Take a step, and carry the tangents through it.

        Args:
            batch: The minibatch.
            given: Values by the names of their hyperparameters.
            number: Of the step, from 0.
            rows: What the step touches.
            options: Clipping, strategy.
        """
        ready, optimizer = self._ready(batch, given, number), self._optimizer
        assert optimizer is not None
        sums, Z = self._fixed["sums"], self._fixed["Z"]
        S = tuple(self._fixed[f"S.{n}"] for n in range(len(ready.state.slots)))
        weights = None
        if any(weight != 1 for weight in rows.weights):  # they change from step to step
            weights = self._fill(f"weights.{len(rows.weights)}", rows.weights)
            rows = rows._replace(weights=())
        # What is counted on the host is the caller's.
        names = "clipped_gradients", "clipped_products", "finite", "sizes"
        fixed, none = {name: self._fixed[name] for name in names}, (0,) * len(Z)
        tangents = Tangents(Z, S, rows.reached, Diagnostics(0, products=none, used=none, **fixed))

        def step() -> None:
            values = optimizer.step_values(ready.given, ready.state.theta)
            taken = ready.batch, optimizer, values, ready.step, rows, options, weights
            after, moved, loss, score = advance(self._model, ready.state, tangents, *taken)
            _move(ready.state, after)
            Z.copy_(moved.Z)
            for own, new in zip(S, moved.S, strict=True):
                own.copy_(new)
            for name, tensor in moved.diagnostics.tensors().items():
                self._fixed[name].copy_(tensor)
            add_scores(sums, loss, score, ready.batch)

        # Which rows are reached after it is no part of a step's arithmetic.
        self._recorder.run((options, rows._replace(reached=())), step)

    def _ready(self, batch: Batch, given: Mapping[str, Value | Tensor], number: int) -> Ready:
        """Bring minibatch, values and the step's number to where the steps find them."""
        assert self.state is not None, "no run has been placed"
        fixed = self.fix_batch("batch", batch)
        for name, value in given.items():
            if isinstance(value, Tensor):
                self.fix(f"value.{name}", value)
            elif self._numbers.get(name) != value:
                self._fill(f"value.{name}", value)
                self._numbers[name] = value
        on_device = {name: self._fixed[f"value.{name}"] for name in given}
        return Ready(self.state, fixed, on_device, self._fill("step", number))

    def _fill(self, name: str, value: Value) -> Tensor:
        """Bring numbers to the fixed tensor of that name, without waiting for the device.

        They stay in double precision, as they are where nothing is recorded.
        """
        assert self.state is not None
        shape = (len(value),) if isinstance(value, tuple) else ()
        fixed = self._fixed.get(name)
        if fixed is None or fixed.shape != shape:
            device = self.state.theta.device
            fixed = self.fix(name, torch.zeros(shape, dtype=torch.float64, device=device))
        if not isinstance(value, tuple):
            return fixed.fill_(value)
        numbers = torch.tensor(value, dtype=torch.float64)
        if fixed.is_cuda:
            numbers = numbers.pin_memory()
        return fixed.copy_(numbers, non_blocking=True)

    def fix(self, name: str, tensor: Tensor) -> Tensor:
        """Copy into the fixed tensor of that name, and return it."""
        fixed = self._fixed.get(name)
        if fixed is None or (fixed.shape, fixed.dtype) != (tensor.shape, tensor.dtype):
            if fixed is not None:
                self._recorder.forget()
            fixed = self._fixed[name] = torch.empty_like(tensor)
        return fixed.copy_(tensor)


def replay_for(
    model: FlatModel,
    device: torch.device,
    wanted: str,
    note: Callable[[str], None] = warnings.warn,
) -> Replay | None:
    """Return what takes the inner steps of a network, or None if they are simply taken.

    Args:
        model: The network and its loss.
        device: Where it computes.
        wanted: One of `REPLAY`: `auto` replays on CUDA, and what cannot be recorded is called;
            `always` replays anywhere, and refuses that; `never` calls.
        note: Is told in one line if a step cannot be recorded.

    Returns:
        The replay of inner runs that follow one another.

    Raises:
        ValueError: For another word.
    """
    if wanted not in REPLAY:
        raise ValueError(f"unknown replay {wanted!r}: use one of {REPLAY}")
    if wanted == "never" or (wanted == "auto" and device.type != "cuda"):
        return None
    return Replay(model, Recorder(device, strict=wanted == "always", note=note))


def _move(state: InnerState, after: InnerState) -> None:
    """Copy new weights to where the old ones are; buffers have changed in place."""
    state.theta.copy_(after.theta)
    for own, new in zip(state.slots, after.slots, strict=True):
        own.copy_(new)
