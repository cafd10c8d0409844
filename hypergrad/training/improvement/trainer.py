"""One training of a plan: with a candidate's values, to the end, and back if that is wanted."""

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.budget import Spent
from hypergrad.core.functional_model import Batch
from hypergrad.core.move_space import MoveSpace
from hypergrad.differentiation.per_step import PerStep
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.training.differentiated_run import ReverseRun
from hypergrad.training.improvement.trainings import Outcome, Training
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import ScheduledRun, steps

__all__ = ["Subject", "check_goes_back", "outcome_of", "untrained_loss"]

LOOKS = 4  # an epoch, whether weights are still finite


class Subject(NamedTuple):
    """What a key stands for.

    Attributes:
        problem: The training: weights and data of the key.
        validation: What it is judged on, batches.
        back: The same in the batches that hypergradients take.
        seed: Of what the network itself draws, as dropout does.
        lost: Metric of a training that diverged.
    """

    problem: InnerProblem
    validation: Sequence[Batch]
    back: Sequence[Batch]
    seed: int
    lost: float = math.nan


def outcome_of(
    training: Training,
    subject: Subject,
    space: MoveSpace,
    options: ReverseOptions,
    tick: Callable[[], None] = lambda: None,
) -> Outcome:
    """Train, and return what came of it.

    Args:
        training: Which.
        subject: What its key stands for.
        space: Gives its values.
        options: Memory of reverse mode.
        tick: Is called after every step; what it raises ends the training.
    """
    began, problem = time.monotonic(), subject.problem
    schedule = space.schedule(training.trained, problem.horizon)
    with torch.random.fork_rng():
        torch.manual_seed(subject.seed)
        if training.differentiate:
            run = ReverseRun(problem, schedule, options)
        else:
            run = ScheduledRun(problem, schedule)
        for _ in steps(run, LOOKS):
            tick()
    gradients, products = run.step, 0
    whole = run.came_through()
    loss, accuracy, found = math.inf, subject.lost, None
    if whole:
        loss, accuracy = problem.model.evaluate(
            run.state.theta, run.state.buffers, subject.validation
        )
        if isinstance(run, ReverseRun) and math.isfinite(loss):
            per_step = run.per_step(subject.back, lambda step: tick())
            moves = space.pulled(training.trained, problem.horizon, _by_name(per_step))
            found = moves if all(map(math.isfinite, moves)) else None
            gradients, products = run.cost()
    spent = Spent(time.monotonic() - began, gradients, products, 1)
    return Outcome(loss, accuracy, not whole, spent, found)


def check_goes_back(problem: InnerProblem, space: MoveSpace) -> None:
    """Refuse a network that would draw other random numbers on the way back.

    Raises:
        ValueError: With what draws them.
    """
    optimizer = problem.optimizer.bind(problem.model, space.base)
    values = optimizer.step_values(optimizer.given(space.base, 0, problem.horizon), problem.theta)
    batch = problem.minibatches.at(0)
    if source := problem.model.random_source(batch, optimizer.named(values.loss)):
        raise ValueError(
            f"{source} draws random numbers, and hypergradients go back through the training, "
            "where it would draw others: leave it out, or take direction=random"
        )


def untrained_loss(subject: Subject) -> float:
    """Return the validation loss of the weights that a key's training begins with."""
    problem = subject.problem
    return problem.model.evaluate(problem.theta, problem.model.buffers(), subject.validation)[0]


def _by_name(found: PerStep) -> dict[str, Tensor]:
    """Hypergradients of every step's values, and of vectors' coefficients, over all chunks."""
    own = dict(zip(found.names, found.mean.unbind(dim=1), strict=True))
    shares = found.mean.new_tensor(found.shares)
    return own | {name: shares @ each for name, each in found.vectors.items()}
