"""Several trainings of one network at once, and whether that is faster here.

All members start from the same weights and see the same minibatches; only their schedules differ.
The parameters are stacked, `(K, D)`, and one batched evaluation serves all members: small networks
leave a device mostly idle, and what is done to shared images is done once. Members that diverge do
not disturb the others.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer
from hypergrad.core.limits import known_limit
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import (
    Gradient,
    InnerState,
    add_scores,
    mean_gradient,
    micro_batches,
)
from hypergrad.training.batched_layers import batched_layers
from hypergrad.training.graphed_step import Ready, Replay
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import InnerRun

__all__ = [
    "EnsembleRun",
    "EnsembleSize",
    "JointRun",
    "fastest_size",
    "joint_gradients",
    "joint_obstacle",
]


SIZES = (4, 16, 64)
GAIN = 0.9  # of the time of the size before: what is hardly faster is not worth other rounding
PROBES = 5  # steps of each kind that are timed
ENOUGH = 2.0  # seconds after which fewer steps will do


def joint_obstacle(problem: InnerProblem) -> str | None:
    """Return why members would not be trained as they are alone, or None if they would.

    Args:
        problem: What all members train; two examples of its first minibatch are tried.
    """
    if source := problem.model.random_source(problem.minibatches.at(0)):
        return (
            f"{source} draws random numbers, which would be others in an ensemble: train one at a "
            "time"
        )
    rule = problem.optimizer.rule
    if not rule.elementwise:
        return f"{rule.name} mixes parameters, and here those of all members: train one at a time"
    return None


class JointRun(InnerRun):
    """What all runs of `K` members at once share.

    `state.theta` is `(K, D)`; slots and buffers are stacked likewise.

    Args:
        problem: What all members train.
        size: `K`.
        replay: Takes the steps on tensors of its own, which the run before it leaves to this one.

    Raises:
        ValueError: For a network or an update that would not do to a member what it does alone.
    """

    def __init__(self, problem: InnerProblem, size: int, replay: Replay | None = None) -> None:
        super().__init__(problem)
        if obstacle := joint_obstacle(problem):
            raise ValueError(obstacle)
        buffers = {name: b.expand(size, *b.shape) for name, b in problem.model.buffers().items()}
        self.state = InnerState.start(
            problem.theta.expand(size, -1), len(self._slot_names), buffers
        )
        self._sums = self._sums.new_zeros(size, 2)
        self._replay = replay

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot."""
        super().restore(tensors, scalars)
        self._place()

    def _place(self) -> None:
        """Move to the tensors that steps are replayed on, if they are."""
        if self._replay is not None:
            self.state, self._sums = self._replay.place(self.state, self._sums, self._bound)

    @property
    def _bound(self) -> BoundOptimizer:
        raise NotImplementedError


class EnsembleRun(JointRun):
    """Train `K` members with a schedule each.

    Args:
        problem: What all members train.
        schedules: One a member.
        replay: As of all such runs.

    Raises:
        ValueError: For schedules of different names, and as all such runs.
    """

    def __init__(
        self, problem: InnerProblem, schedules: Sequence[Schedule], replay: Replay | None = None
    ) -> None:
        size = len(schedules)
        super().__init__(problem, size, replay)
        names = {tuple(name for name in schedule if schedule[name]) for schedule in schedules}
        if len(names) > 1:
            raise ValueError(f"schedules of {sorted(names)}: train them one at a time")
        self._optimizer = problem.optimizer.bind(problem.model, schedules[0])
        # (T, K, 1), or (T, K, size) of a vector: what each step uses, one row a member.
        self._values = {
            name: problem.theta.new_tensor(
                [[values[name] for values in row] for row in self._given(schedules)]
            ).reshape(self.horizon, size, -1)
            for name in self._optimizer.by_name
        }
        self._place()

    def advance(self) -> None:
        """Take one inner step of every member."""
        step, batch = self._begin_step()
        given = {name: values[step] for name, values in self._values.items()}
        if self._replay is not None:
            model, optimizer = self.problem.model, self._optimizer
            self._replay.take(
                "ensemble", batch, given, step, lambda ready: _step(model, optimizer, ready)
            )
            return
        ready = Ready(self.state, batch, given, step)
        self.state, losses, scores = _step(self.problem.model, self._optimizer, ready)
        add_scores(self._sums, losses, scores, batch)

    @property
    def _bound(self) -> BoundOptimizer:
        return self._optimizer

    def _given(self, schedules: Sequence[Schedule]) -> list[list[dict]]:
        steps = range(self.horizon)
        return [[self._optimizer.given(s, t, self.horizon) for s in schedules] for t in steps]


def _step(
    model: FlatModel, optimizer: BoundOptimizer, ready: Ready
) -> tuple[InnerState, Tensor, Tensor]:
    """Take one inner step of all members: their state, `(K,)` losses and `(K,)` scores."""
    theta, slots, buffers = ready.state
    values = optimizer.step_values(ready.given, theta)
    own = values.loss if optimizer.loss_size else values.loss.expand(len(theta), 0)
    g, losses, scores = joint_gradients(model, optimizer, ready.state, ready.batch, own)
    g = optimizer.transform(g)
    theta, slots = optimizer.rule.update(g, theta, slots, values.rule, ready.step)
    return InnerState(theta, slots, buffers), losses, scores


def joint_gradients(
    model: FlatModel, optimizer: BoundOptimizer, state: InnerState, batch: Batch, own: Tensor
) -> Gradient:
    """Return the gradients of the training losses of all members.

    Args:
        model: The network and its loss.
        optimizer: Names the values of the loss.
        state: Of all members; its buffers are updated in place.
        batch: The minibatch, the same for all.
        own: `(K, M)` values of the loss.

    Returns:
        `(K, D)` gradients, `(K,)` losses and `(K,)` scores.
    """
    point = state.theta.detach().requires_grad_()
    layers = batched_layers(model, point.device)
    found = []
    for micro in micro_batches(batch):

        def loss_of(
            theta: Tensor, buffers: dict[str, Tensor], own: Tensor, micro: Batch = micro
        ) -> tuple[Tensor, Tensor]:
            return model.tracked_loss(theta, micro, buffers, optimizer.named(own))

        with layers:
            losses, scores = vmap(loss_of)(point, state.buffers, own)
        # A member's loss depends on its own row alone: that of the sum is all of theirs.
        g = torch.autograd.grad(losses.sum(), point)[0]
        found.append(Gradient(g, losses.detach(), scores.detach()))
    return mean_gradient(found)


class EnsembleSize(NamedTuple):
    """How many trials it pays to train together, and why.

    Attributes:
        size: That many.
        seconds: Median seconds that a step of one trial takes, by size, as far as was measured.
        skipped: By size, the limit of PyTorch or the device that ended the measurement: a line.
    """

    size: int
    seconds: dict[int, float]
    skipped: dict[int, str]

    def __str__(self) -> str:
        times = ", ".join(f"{k} at once {1e3 * s:.2f} ms" for k, s in self.seconds.items())
        skipped = "".join(f"; {k} skipped: {why}" for k, why in self.skipped.items())
        return f"trains {self.size} at once (a step of each: {times}){skipped}"


def fastest_size(
    problem: InnerProblem,
    begin: Callable[[int], InnerRun],
    largest: int,
    tick: Callable[[], None] = lambda: None,
    warm_up: int = 1,
) -> EnsembleSize:
    """Measure how many trials it pays to train together.

    Args:
        problem: What all trials train.
        begin: Returns a run of so many trials, of which a few steps are taken; of 1, as a trial is
            trained alone.
        largest: Members at most.
        tick: Is called after every step; what it raises ends the measurement.
        warm_up: Steps of each kind before those that are timed; more, where they are recorded.

    Returns:
        The largest size that is clearly faster, a trial, than the one before it, 1 to begin with.

    Raises:
        RuntimeError: For whatever the network raises that is not a known limit of batching.
    """
    best, seconds = 1, {1: _step_seconds(begin(1), tick, warm_up)}
    skipped: dict[int, str] = {}
    if joint_obstacle(problem):
        return EnsembleSize(best, seconds, skipped)
    for size in SIZES:
        if size > largest:
            break
        try:
            seconds[size] = _step_seconds(begin(size), tick, warm_up) / size
        except RuntimeError as error:
            reason = known_limit(error)
            if reason is None:
                raise
            skipped[size] = reason
            break
        if seconds[size] > GAIN * seconds[best]:
            break
        best = size
    return EnsembleSize(best, seconds, skipped)


def _step_seconds(run: InnerRun, tick: Callable[[], None], warm_up: int) -> float:
    """Median seconds of an inner step, after those that warm up."""
    theta = run.state.theta
    times = []
    for _ in range(min(warm_up + PROBES, run.horizon)):
        began = time.perf_counter()
        run.advance()
        if theta.device.type == "cuda":
            torch.cuda.synchronize(theta.device)
        times.append(time.perf_counter() - began)
        tick()
        if sum(times) > ENOUGH and len(times) > warm_up:
            break
    return statistics.median(times[warm_up:] or times)
