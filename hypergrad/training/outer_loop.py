"""What the outer loop takes and gives: its options, its data, where it is, one step of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hypergrad.core import outer_optimizer
from hypergrad.core.budget import Budget, Spent
from hypergrad.core.functional_model import Batch
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.outer_optimizer import OuterState, selection_key
from hypergrad.core.schedule import Schedule
from hypergrad.data import Images
from hypergrad.differentiation.diagnostics import HypergradientDiagnostics
from hypergrad.training.inner_problem import InnerProblem

__all__ = [
    "Best",
    "Evaluation",
    "OuterData",
    "OuterOptions",
    "OuterProgress",
    "OuterStep",
]


class Evaluation(NamedTuple):
    """Losses and accuracies (in [0, 1]) at one moment; None for what was not looked at."""

    validation_loss: float | None
    validation_accuracy: float | None
    test_loss: float | None = None
    test_accuracy: float | None = None


@dataclass(frozen=True)
class OuterOptions:
    """How far the outer loop trains, how it moves, and when it ends.

    Attributes:
        steps: Outer steps at most.
        epochs: The horizon of their inner runs.
        first_horizons: Epochs of the first ones, where they are shorter: while all values are zero
            the weights do not move. Windows stretch to each horizon.
        tolerance: Ends the loop when every step size is under this share of its value.
        patience: Ends it after so many outer steps without a better validation accuracy, or None.
        budget: Ends it where another outer step would overshoot by more than it falls short.
        sign_agreement: So many further trajectories an outer step, which differ in rounding, tell
            whether its signs are reproducible; each costs what the first did.
        select: What the best outer step is told by: `accuracy`, or `loss`.
        trajectories: `K` trainings of every outer step, which differ in initial weights, order and
            split. It moves by the mean of their hypergradients; a coefficient whose mean is below
            its standard error stays.
        descent: How values move: by `signs`, whose steps halve when they flip; or `averaged`, along
            averages over the outer steps, for many values.

    Raises:
        ValueError: For no trajectory, several beside a sign agreement, or another descent.
    """

    steps: int
    epochs: int
    first_horizons: Sequence[int] = ()
    tolerance: float = 0.05
    patience: int | None = None
    budget: Budget | None = None
    sign_agreement: int = 0
    select: str = "accuracy"
    trajectories: int = 1
    descent: str = "signs"

    def __post_init__(self) -> None:
        if self.descent not in outer_optimizer.DESCENTS:
            known = " or ".join(outer_optimizer.DESCENTS)
            raise ValueError(f"descent={self.descent!r}: use {known}")
        if self.trajectories < 1:
            raise ValueError(f"trajectories={self.trajectories}: must be at least 1")
        if self.trajectories > 1 and self.sign_agreement:
            raise ValueError(
                f"trajectories={self.trajectories} with sign_agreement={self.sign_agreement}: "
                "trajectories differ in more than rounding already; give one of the two"
            )

    def horizon(self, number: int) -> int:
        """Return the epochs of the inner run of an outer step."""
        if number < len(self.first_horizons):
            return min(self.first_horizons[number], self.epochs)
        return self.epochs

    def end(
        self,
        progress: "OuterProgress",
        last: Spent,
        columns: Sequence[Hyperparameter] = (),
    ) -> str | None:
        """Return why a loop ends here; empty for the last of all outer steps, None to go on.

        Args:
            progress: Where the loop is.
            last: What its last outer step has cost.
            columns: Whose each coefficient is.
        """
        number, best = progress.number, progress.best
        assert progress.state is not None
        if self.descent == "signs" and outer_optimizer.has_converged(
            progress.state, self.tolerance, columns
        ):
            return f"converged after {number} outer steps"
        stale = 0 if best is None else number - 1 - best.number
        if self.patience is not None and stale >= self.patience:
            return f"no better validation accuracy in {self.patience} outer steps"
        # The first one has no products, and says nothing about the others.
        if self.budget is not None and number > 1:
            cost = last.over(self.horizon(number) / self.horizon(number - 1))
            if not self.budget.allows(progress.spent, cost):
                return f"the budget of {self.budget} is spent after {number} outer steps"
        return "" if number == self.steps else None


class OuterData(NamedTuple):
    """What one outer step trains on, and what it validates on.

    Attributes:
        problem: The training, on this step's split.
        validation: What is held out: images, or batches of anything.
        batches: The same in the batches that its hypergradients take.
    """

    problem: InnerProblem
    validation: Images | Sequence[Batch]
    batches: Sequence[Batch]


class Best(NamedTuple):
    """An outer step that was the best when it was taken."""

    number: int
    schedule: Schedule
    evaluation: Evaluation

    def or_better(self, step: "Best", by: str = "accuracy") -> "Best":
        """Return the better of the two; this one if they are level."""
        return step if step.key(by) > self.key(by) else self

    @property
    def is_finite(self) -> bool:
        """Whether its loss is a finite number: otherwise it is never kept."""
        return math.isfinite(self.key()[0])

    def key(self, by: str = "accuracy") -> tuple[float, float]:
        """Return what orders it among others: see `selection_key`."""
        accuracy, loss = self.evaluation.validation_accuracy, self.evaluation.validation_loss
        assert accuracy is not None
        assert loss is not None
        return selection_key(accuracy, loss, by)


class OuterProgress(NamedTuple):
    """Where an outer loop is, between two outer steps.

    Attributes:
        number: Outer steps taken.
        state: Of the outer optimiser; None before the first step.
        best: The best of the steps taken; None if none stayed finite.
        spent: What they have cost.
    """

    number: int = 0
    state: OuterState | None = None
    best: Best | None = None
    spent: Spent = Spent()


@dataclass(frozen=True)
class OuterStep:
    """One outer step; equal to another that found the same, whatever came before and after.

    Of several trajectories it has the means; `gradients` and `products` are of all of them.

    Attributes:
        schedule: The values that it trained with.
        hypergradients: One a value, averaged over its steps; NaN if training diverged.
        validation_loss: At the end of training.
        validation_accuracy: In [0, 1].
        diagnostics: How far to trust each hypergradient; empty if training diverged.
        gradients: Gradient evaluations that it took.
        products: Hessian products likewise, in those of whole minibatches.
        number: From 0.
        epochs: Its horizon in epochs.
        horizon: The same in inner steps.
        contributing: Inner steps behind each hypergradient.
        diverged_step: Inner steps taken before training diverged; None if it did not.
        complaints: Which hypergradients are not finite numbers, a line each.
        doubts: Which signs are not reproducible, or how many trajectories diverged, in a line; None
            if there is nothing to tell.
        after: Where the loop is then; it can go on from there.
        ended: Why this was the last outer step; empty if all of them were taken, None if it is not.
        test_accuracy: At the end of training, in [0, 1]; None where the test set is not looked at.
    """

    schedule: Schedule
    hypergradients: tuple[float, ...]
    validation_loss: float
    validation_accuracy: float
    diagnostics: tuple[HypergradientDiagnostics, ...] = ()
    gradients: int = 0
    products: int = 0
    number: int = 0
    epochs: int = 0
    horizon: int = 0
    contributing: tuple[float, ...] = ()
    diverged_step: int | None = None
    complaints: tuple[str, ...] = ()
    doubts: str | None = None
    after: OuterProgress = field(default=OuterProgress(), compare=False)
    ended: str | None = field(default=None, compare=False)
    test_accuracy: float | None = None
