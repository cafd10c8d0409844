"""Several trainings of one network at once, and whether that is faster here.

All members start from the same weights and see the same minibatches; only their schedules differ.
The parameters are stacked, `(K, D)`, and one batched evaluation serves all members: small networks
leave a device mostly idle. Members that diverge do not disturb the others.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.limits import known_limit
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import (
    Gradient,
    InnerState,
    add_scores,
    mean_gradient,
    micro_batches,
)
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import InnerRun, ScheduledRun

__all__ = ["EnsembleRun", "EnsembleSize", "check_ensemble", "fastest_size"]


SIZES = (4, 16, 64)
GAIN = 0.9  # of the time of the size before: what is hardly faster is not worth other rounding
PROBES = 5  # steps of each kind, after one that warms up
ENOUGH = 2.0  # seconds after which fewer steps will do


def check_ensemble(model: FlatModel, batch: Batch) -> None:
    """Refuse a network whose members would not be trained as they are alone.

    Args:
        model: The network and its loss.
        batch: A minibatch, of which two examples are tried.

    Raises:
        ValueError: If it draws random numbers, which would be others.
    """
    if source := model.random_source(batch):
        raise ValueError(
            f"{source} draws random numbers, which would be others in an ensemble: train one at a "
            "time"
        )


class EnsembleRun(InnerRun):
    """Train `K` members with a schedule each; `state.theta` is `(K, D)`, buffers are stacked too.

    Args:
        problem: What all members train.
        schedules: One a member.
    """

    def __init__(self, problem: InnerProblem, schedules: Sequence[Schedule]) -> None:
        super().__init__(problem)
        model, theta = problem.model, problem.theta
        check_ensemble(model, problem.minibatches.at(0))
        size = len(schedules)
        if not problem.optimizer.rule.elementwise:
            raise ValueError(
                f"{problem.optimizer.rule.name} mixes parameters, and here those of all members: "
                "train one at a time"
            )
        names = {tuple(name for name in schedule if schedule[name]) for schedule in schedules}
        if len(names) > 1:
            raise ValueError(f"schedules of {sorted(names)}: train them one at a time")
        self._optimizer = problem.optimizer.bind(model, schedules[0])
        buffers = {name: b.expand(size, *b.shape) for name, b in model.buffers().items()}
        slots = len(self._optimizer.rule.slots)
        self.state = InnerState.start(theta.expand(size, -1), slots, buffers)
        self._sums = self._sums.new_zeros(size, 2)
        # (T, K, 1), or (T, K, size) of a vector: what each step uses, one row a member.
        self._values = {
            name: theta.new_tensor(
                [[values[name] for values in row] for row in self._given(schedules)]
            ).reshape(self.horizon, size, -1)
            for name in self._optimizer.by_name
        }

    def advance(self) -> None:
        """Take one inner step of every member."""
        step, batch = self._begin_step()
        theta, slots, buffers = self.state
        model, optimizer = self.problem.model, self._optimizer
        given = {name: values[step] for name, values in self._values.items()}
        values = optimizer.step_values(given, theta)
        own = values.loss if optimizer.loss_size else values.loss.expand(len(theta), 0)
        point = theta.detach().requires_grad_()
        found = []
        for micro in micro_batches(batch):

            def loss_of(
                theta: Tensor, buffers: dict[str, Tensor], own: Tensor, micro: Batch = micro
            ) -> tuple[Tensor, Tensor]:
                return model.tracked_loss(theta, micro, buffers, optimizer.named(own))

            losses, scores = vmap(loss_of)(point, buffers, own)
            # A member's loss depends on its own row alone: that of the sum is all of theirs.
            g = torch.autograd.grad(losses.sum(), point)[0]
            found.append(Gradient(g, losses.detach(), scores.detach()))
        g, losses, scores = mean_gradient(found)
        g = optimizer.transform(g)
        theta, slots = optimizer.rule.update(g, theta, slots, values.rule, step)
        self.state = InnerState(theta, slots, buffers)
        add_scores(self._sums, losses, scores, batch)

    def _given(self, schedules: Sequence[Schedule]) -> list[list[dict]]:
        steps = range(self.horizon)
        return [[self._optimizer.given(s, t, self.horizon) for s in schedules] for t in steps]


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
    schedule: Schedule,
    largest: int,
    tick: Callable[[], None] = lambda: None,
) -> EnsembleSize:
    """Measure how many trials it pays to train together.

    Args:
        problem: What all trials train; a few steps of it are taken.
        schedule: Any schedule.
        largest: Members at most.
        tick: Is called after every step; what it raises ends the measurement.

    Returns:
        The largest size that is clearly faster, a trial, than the one before it, 1 to begin with.

    Raises:
        RuntimeError: For whatever the network raises that is not a known limit of batching.
    """
    alone = ScheduledRun(problem, schedule)
    best, seconds = 1, {1: _step_seconds(alone, tick)}
    skipped: dict[int, str] = {}
    if problem.model.random_source(problem.minibatches.at(0)):
        return EnsembleSize(best, seconds, skipped)
    for size in SIZES:
        if size > largest:
            break
        try:
            run = EnsembleRun(problem, [schedule] * size)
            seconds[size] = _step_seconds(run, tick) / size
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


def _step_seconds(run: InnerRun, tick: Callable[[], None]) -> float:
    """Median seconds of an inner step, after one that warms up."""
    theta = run.state.theta
    times = []
    for _ in range(min(1 + PROBES, run.horizon)):
        began = time.perf_counter()
        run.advance()
        if theta.device.type == "cuda":
            torch.cuda.synchronize(theta.device)
        times.append(time.perf_counter() - began)
        tick()
        if sum(times) > ENOUGH and len(times) > 1:
            break
    return statistics.median(times[1:] or times)
