"""Inner steps on tensors that stay where they are, so that a recording of them can be replayed.

A step takes its minibatch and its values from fixed tensors, changes weights, tangents and running
sums in place, and asks the host for nothing. Which rows of the tangents it touches is part of its
arithmetic: there is one recording a plan (`ActiveTangents`), of which a run has few.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.schedule import StepValues
from hypergrad.core.sgd import InnerState, add_scores, train_step
from hypergrad.differentiation.active_tangents import ActiveTangents
from hypergrad.differentiation.diagnostics import Diagnostics
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.recursion import Tangents, advance
from hypergrad.training.cuda_graph import Recorder

__all__ = ["REPLAY", "Replay", "replay_for"]

REPLAY = ("auto", "always", "never")


class _Scalars(NamedTuple):
    """What a step uses, on the device."""

    alpha: Tensor
    beta: Tensor
    mu: Tensor


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
        self._values: tuple[float, float, float] | None = None
        self.state: InnerState | None = None

    def place(self, state: InnerState, sums: Tensor) -> tuple[InnerState, Tensor]:
        """Copy where a run is into fixed tensors.

        Args:
            state: Its weights, velocity and buffers.
            sums: Its running sums of loss and correct predictions.

        Returns:
            The same, which every step changes in place; the run before must be over.
        """
        buffers = {name: self._fix(f"buffer.{name}", b) for name, b in state.buffers.items()}
        theta, v = self._fix("theta", state.theta), self._fix("v", state.v)
        self.state = InnerState(theta, v, buffers)
        rates = torch.zeros_like(theta[0])
        self._scalars = _Scalars(*(self._fix(name, rates) for name in _Scalars._fields))
        self._values = None
        return self.state, self._fix("sums", sums)

    def place_tangents(self, tangents: Tangents) -> Tangents:
        """Copy a run's tangents, and what has happened to them, into fixed tensors."""
        diagnostics = tangents.diagnostics
        fixed = {name: self._fix(name, tensor) for name, tensor in diagnostics.tensors().items()}
        Z, C = self._fix("Z", tangents.Z), self._fix("C", tangents.C)
        return tangents._replace(Z=Z, C=C, diagnostics=diagnostics._replace(**fixed))

    def train(self, batch: Batch, values: StepValues, limit: float | None) -> None:
        """Take a plain training step.

        Args:
            batch: `(B, ...)` inputs and `(B,)` labels.
            values: `alpha_t`, `beta_t`, `mu_t`.
            limit: `c_g`, elementwise limit on the gradient, or None.
        """
        state, (x, y), scalars = self._ready(batch, values)
        sums = self._fixed["sums"]

        def step() -> None:
            after, loss, predictions = train_step(self._model, state, (x, y), scalars, limit)
            _move(state, after)
            add_scores(sums, loss, predictions, y)

        self._recorder.run(("train", limit), step)

    def forward(
        self, batch: Batch, values: StepValues, rows: ActiveTangents, options: ForwardOptions
    ) -> None:
        """Take a step, and carry the tangents through it.

        Args:
            batch: `(B, ...)` inputs and `(B,)` labels.
            values: `alpha_t`, `beta_t`, `mu_t`.
            rows: What the step touches.
            options: Clipping, strategy.
        """
        state, (x, y), scalars = self._ready(batch, values)
        sums, Z, C = (self._fixed[name] for name in ("sums", "Z", "C"))
        gradients, products, finite = (
            self._fixed[name] for name in ("clipped_gradients", "clipped_products", "finite")
        )
        # What is counted on the host is the caller's.
        diagnostics = Diagnostics(0, gradients, products, (0,) * len(Z), finite)
        tangents = Tangents(Z, C, rows.reached, diagnostics)

        def step() -> None:
            after, moved, loss, predictions = advance(
                self._model, state, tangents, (x, y), scalars, rows, options
            )
            _move(state, after)
            Z.copy_(moved.Z)
            C.copy_(moved.C)
            for name, tensor in moved.diagnostics.tensors().items():
                self._fixed[name].copy_(tensor)
            add_scores(sums, loss, predictions, y)

        # Which rows are reached after it is no part of a step's arithmetic.
        self._recorder.run((options, rows._replace(reached=())), step)

    def _ready(self, batch: Batch, values: StepValues) -> tuple[InnerState, Batch, _Scalars]:
        """Bring minibatch and values to where the steps find them."""
        assert self.state is not None, "no run has been placed"
        x, y = self._fix("x", batch[0]), self._fix("y", batch[1])
        numbers = values.alpha, values.beta, values.mu
        if numbers != self._values:
            for scalar, number in zip(self._scalars, numbers, strict=True):
                scalar.fill_(number)
            self._values = numbers
        return self.state, (x, y), self._scalars

    def _fix(self, name: str, tensor: Tensor) -> Tensor:
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
    state.v.copy_(after.v)
