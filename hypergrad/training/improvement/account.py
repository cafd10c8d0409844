"""What a plan has spent and reached, and whether it can afford more."""

import math
from typing import TypeVar

from hypergrad.core.budget import Spent
from hypergrad.training.improvement.options import ImproveOptions
from hypergrad.training.improvement.trainings import Asking, Outcome, capped

__all__ = ["CAP", "Account"]

CAP = 1.3  # times the loss of an untrained network: what a dead training counts as
LEARNED = 0.9  # of the same: below it something was learned
T = TypeVar("T")


class Account:
    """The account of one plan: it listens to what its stages are told.

    Args:
        cap: What dead trainings count as.

    Attributes:
        spent: What all trainings so far have cost.
    """

    def __init__(self, cap: float) -> None:
        self.cap = cap
        self.spent = Spent()
        self._plain, self._differentiated = Spent(), Spent()
        self._least = math.inf

    def noted(self, asking: Asking[T]) -> Asking[T]:
        """Pass the questions and answers of a stage on, and add up what they cost."""
        try:
            trainings = next(asking)
            while True:
                outcomes = yield trainings
                for training, outcome in zip(trainings, outcomes, strict=True):
                    self.spent = self.spent.plus(outcome.spent)
                    self._least = min(self._least, capped(outcome.loss, math.inf))
                    if training.differentiate:
                        self._differentiated = self._differentiated.plus(outcome.spent)
                    else:
                        self._plain = self._plain.plus(outcome.spent)
                trainings = asking.send(outcomes)
        except StopIteration as end:
            return end.value

    def is_dead(self, outcome: Outcome) -> bool:
        """Whether a training collapsed: it is nearer to an untrained network than to the best.

        Where nothing has learned yet, a training that stands still is slow rather than dead.
        """
        untrained, limit = self.cap / CAP, self.cap
        if self._least < LEARNED * untrained:
            limit = (self._least + untrained) / 2
        return outcome.diverged or capped(outcome.loss, self.cap) >= limit

    def allow_iteration(self, options: ImproveOptions) -> bool:
        """Whether the budget has room for an iteration, and the confirmation and judgement after.

        Before there has been one, a differentiated training counts as four.
        """
        if options.budget is None or not self._plain.trials:
            return True
        one = _each(self._plain)
        differentiated = _each(self._differentiated) or _times(one, 4)._replace(trials=1)
        plain = options.repeats * (1 + len(options.steps)) + 3 * options.final + 2 * options.judged
        cost = _times(one, plain)
        if options.direction == "hypergradients":
            cost = cost.plus(_times(differentiated, options.trajectories))
        return options.budget.of(self.spent.plus(cost)) <= options.budget.amount


def _each(spent: Spent) -> Spent | None:
    if not spent.trials:
        return None
    n = spent.trials
    return Spent(spent.seconds / n, round(spent.gradients / n), round(spent.products / n), 1)


def _times(spent: Spent | None, count: int) -> Spent:
    if spent is None:
        return Spent()
    return Spent(
        spent.seconds * count, spent.gradients * count, spent.products * count, spent.trials * count
    )
