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

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.limits import known_limit
from hypergrad.core.schedule import Schedule
from hypergrad.core.sgd import InnerState, add_scores, clip_gradient, sgd_step
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import InnerRun, ScheduledRun

__all__ = ["EnsembleRun", "EnsembleSize", "check_ensemble", "fastest_size"]


SIZES = (4, 16, 64)
GAIN = 0.9  # of the time of the size before: what is hardly faster is not worth other rounding
PROBES = 5  # steps of each kind, after one that warms up
ENOUGH = 2.0  # seconds after which fewer steps will do


def check_ensemble(model: FlatModel) -> None:
    """Refuse a network whose members would not be trained as they are alone.

    Args:
        model: The network and its loss.

    Raises:
        ValueError: If it has dropout, whose draws would be others.
    """
    if model.has_dropout:
        raise ValueError(
            "a network with dropout cannot be trained as an ensemble: train one at a time"
        )


class _MemberValues(NamedTuple):
    """What one step of `K` members uses, each `(K, 1)`."""

    alpha: Tensor
    beta: Tensor
    mu: Tensor


class EnsembleRun(InnerRun):
    """Train `K` members with a schedule each; `state.theta` is `(K, D)`, buffers are stacked too.

    Args:
        problem: What all members train.
        schedules: One a member.
    """

    def __init__(self, problem: InnerProblem, schedules: Sequence[Schedule]) -> None:
        super().__init__(problem)
        model, theta = problem.model, problem.theta
        check_ensemble(model)
        size = len(schedules)
        buffers = {name: b.expand(size, *b.shape) for name, b in model.buffers().items()}
        self.state = InnerState.start(theta.expand(size, -1), buffers)
        self._sums = self._sums.new_zeros(size, 2)
        steps = [[s.at(t, self.horizon)[:3] for s in schedules] for t in range(self.horizon)]
        # (T, 3, K, 1): what each step uses, one column a member.
        self._values = theta.new_tensor(steps).transpose(1, 2).unsqueeze(-1)

    def advance(self) -> None:
        """Take one inner step of every member."""
        step, (x, y) = self._begin_step()
        theta, v, buffers = self.state
        point = theta.detach().requires_grad_()
        each = vmap(self.problem.model.tracked_loss, in_dims=(0, None, None, 0))
        losses, predictions = each(point, x, y, buffers)
        # A member's loss depends on its own row alone, so the gradient of the sum is all of theirs.
        g, _ = clip_gradient(
            torch.autograd.grad(losses.sum(), point)[0], self.problem.clip_gradient
        )
        theta, v = sgd_step(theta, v, g, _MemberValues(*self._values[step]))
        self.state = InnerState(theta, v, buffers)
        add_scores(self._sums, losses.detach(), predictions.detach(), y)


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
    if problem.model.has_dropout:
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
