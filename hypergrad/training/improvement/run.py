"""An improvement under way: the plan's trainings, taken one after another, recorded or replayed."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from hypergrad.core.budget import Spent
from hypergrad.core.schedule import Schedule
from hypergrad.core.seeding import seed_of
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.training.differentiated_run import differentiated
from hypergrad.training.improvement.moves import Moves
from hypergrad.training.improvement.planner import Improvement, ImprovementOptions, plan
from hypergrad.training.improvement.training import Outcome, Training
from hypergrad.training.inner_loop import evaluated
from hypergrad.training.inner_run import ScheduledRun, steps
from hypergrad.training.outer_loop import OuterData

__all__ = ["ImprovementRun", "Taken", "train"]


class Taken(NamedTuple):
    """A training that was asked for, and what came of it."""

    training: Training
    outcome: Outcome


class ImprovementRun(Iterator[Taken]):
    """Takes the trainings of a plan, one a `next`.

    Args:
        moves: Where the schedule may move, and its base.
        options: How much to train.
        train: Takes a training to its end.
        recorded: Outcomes of an earlier run of the same, in order: they are replayed, not taken
            again, and lead to the same end.

    Attributes:
        taken: The trainings so far, those replayed among them.
        result: What came of it; None before the end.

    Raises:
        ValueError: If more outcomes are recorded than the plan asks for.
    """

    def __init__(
        self,
        moves: Moves,
        options: ImprovementOptions,
        train: Callable[[Training], Outcome],
        recorded: Sequence[Outcome] = (),
    ) -> None:
        self.taken: list[Taken] = []
        self.result: Improvement | None = None
        self._train = train
        self._plan = plan(moves, options)
        self._asked: Sequence[Training] = next(self._plan)
        self._outcomes: list[Outcome] = []
        for outcome in recorded:
            if self.result is not None:
                raise ValueError("more outcomes are recorded than this plan asks for")
            self._note(outcome)

    @property
    def due(self) -> Training | None:
        """The training that comes next; None at the end."""
        return None if self.result is not None else self._asked[len(self._outcomes)]

    def __next__(self) -> Taken:
        training = self.due
        if training is None:
            raise StopIteration
        self._note(self._train(training))
        return self.taken[-1]

    def _note(self, outcome: Outcome) -> None:
        training = self.due
        assert training is not None
        self.taken.append(Taken(training, outcome))
        self._outcomes.append(outcome)
        if len(self._outcomes) == len(self._asked):
            try:
                self._asked, self._outcomes = self._plan.send(self._outcomes), []
            except StopIteration as end:
                self.result = end.value


def train(
    training: Training,
    data: OuterData,
    moves: Moves,
    options: ForwardOptions | ReverseOptions,
) -> Outcome:
    """Take a training to its end.

    Args:
        training: Which one.
        data: Of its key.
        moves: Have the bases of its coefficients.
        options: How derivatives are found, where they are wanted.

    Returns:
        What came of it. Whatever draws random numbers in it draws the same for the same key.
    """
    began, problem, wanted = time.monotonic(), data.problem, training.differentiated
    learned_for = problem.optimizer.learned_for(problem.model)
    schedule = Schedule.from_flat(training.values, moves.bases, learned_for)
    with torch.random.fork_rng():
        torch.manual_seed(seed_of("training", training.key))
        differentiable = differentiated(problem, schedule, options) if wanted else None
        inner = differentiable or ScheduledRun(problem, schedule)
        untrained, _ = evaluated(inner, data.validation)
        for _ in steps(inner):
            pass
        whole = inner.done and inner.is_finite()
        loss, accuracy = evaluated(inner, data.validation) if whole else (math.inf, math.nan)
        derivatives, gradients, products = None, inner.step, 0
        if differentiable is not None:
            if whole and math.isfinite(loss):
                found = differentiable.hypergradients(data.batches)
                sums = zip(found.values, found.contributing, strict=True)
                derivatives = tuple(own * steps_ for own, steps_ in sums)
                if not all(map(math.isfinite, derivatives)):
                    derivatives = None
            gradients, products = differentiable.cost()
    if not math.isfinite(loss):
        loss, accuracy = math.inf, math.nan
    spent = Spent(time.monotonic() - began, gradients, products, trials=1)
    return Outcome(loss, accuracy, untrained, derivatives, spent)
