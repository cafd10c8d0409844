"""The outer loop: train with the present values, differentiate, move them; until it ends.

    for step in outer_steps(data_at, learned_at, begin, options, trainer):
        ...  # log it, show it, save step.after, or break off

Each outer step trains anew, on a split of its own. `OuterProgress` is all that the next one needs,
so a loop goes on from any step that it has yielded.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

import torch

from hypergrad.core import outer_optimizer
from hypergrad.core.budget import Budget, Spent
from hypergrad.core.functional_model import Batch
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.outer_optimizer import OuterState, selection_key
from hypergrad.core.schedule import Schedule
from hypergrad.core.schedule_file import Origin
from hypergrad.core.seeding import seed_of
from hypergrad.data import EVALUATION_BATCH, Images, in_batches
from hypergrad.differentiation.diagnostics import HypergradientDiagnostics
from hypergrad.differentiation.result import Hypergradients
from hypergrad.training.differentiated_run import ForwardRun, ReverseRun
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import InnerRun, steps
from hypergrad.training.out_of_memory import MemoryNeed, explaining
from hypergrad.training.sign_agreement import doubts, nudged, with_sign_agreement

__all__ = [
    "Best",
    "Evaluation",
    "InnerLoop",
    "OuterData",
    "OuterOptions",
    "OuterProgress",
    "OuterStep",
    "Trainer",
    "outer_steps",
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
    """

    steps: int
    epochs: int
    first_horizons: Sequence[int] = ()
    tolerance: float = 0.05
    patience: int | None = None
    budget: Budget | None = None
    sign_agreement: int = 0

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
        if outer_optimizer.has_converged(progress.state, self.tolerance, columns):
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
    """The best outer step so far, by validation accuracy; the loss decides a draw."""

    number: int
    schedule: Schedule
    evaluation: Evaluation


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
        doubts: Which signs are not reproducible, in a line; None if all are, or none were compared.
        after: Where the loop is then; it can go on from there.
        ended: Why this was the last outer step; empty if all of them were taken, None if it is not.
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


class Trainer(Protocol):
    """Takes the inner runs of an outer loop to their end."""

    def train(self, inner: InnerRun, validation: Images | Sequence[Batch], /) -> Evaluation:
        """Take a run to its end, or until its weights are lost; return its last evaluation."""
        ...

    def differentiate(
        self, inner: ForwardRun | ReverseRun, batches: Sequence[Batch]
    ) -> Hypergradients:
        """Return the hypergradients of a run at its end."""
        ...

    def repeat(
        self, others: Iterable[ForwardRun | ReverseRun], batches: Sequence[Batch], kept: InnerRun, /
    ) -> list[Hypergradients | None]:
        """Return those of further runs of the same schedule, None for each that diverged.

        They leave no trace but their cost: whoever breaks off goes on from `kept`, at its end.
        """
        ...

    @property
    def seconds(self) -> float:
        """Computing time of the inner run of this outer step so far."""
        ...


class InnerLoop:
    """The plain `Trainer`: from the start to the end in one go, one evaluation there."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def train(self, inner: InnerRun, validation: Images | Sequence[Batch]) -> Evaluation:
        """Take a run to its end, or until its weights are lost, looking once an epoch."""
        self._began = time.monotonic()
        for _ in steps(inner):
            pass
        images = isinstance(validation, Images)
        batches = in_batches(validation, EVALUATION_BATCH) if images else validation
        seen = inner.problem.model.evaluate(inner.state.theta, inner.state.buffers, batches)
        return Evaluation(*seen)

    def differentiate(
        self, inner: ForwardRun | ReverseRun, batches: Sequence[Batch]
    ) -> Hypergradients:
        """Return the hypergradients of a run at its end."""
        return inner.hypergradients(batches)

    def repeat(
        self, others: Iterable[ForwardRun | ReverseRun], batches: Sequence[Batch], kept: InnerRun
    ) -> list[Hypergradients | None]:
        """Return those of further runs of the same schedule, None for each that diverged."""
        found = []
        for inner in others:
            for _ in steps(inner):
                pass
            whole = inner.done and inner.is_finite()
            found.append(inner.hypergradients(batches) if whole else None)
        return found

    @property
    def seconds(self) -> float:
        """Wall time since the inner run of this outer step began."""
        return time.monotonic() - self._began


def outer_steps(
    data_at: Callable[[int], OuterData],
    learned_at: Callable[[int], Sequence[Hyperparameter]],
    begin: Callable[[OuterData, Schedule, int], ForwardRun | ReverseRun],
    options: OuterOptions,
    trainer: Trainer,
    progress: OuterProgress = OuterProgress(),  # noqa: B008 (immutable)
) -> Iterator[OuterStep]:
    """Take outer steps until the loop has converged, is stale, or has spent what it may.

    Args:
        data_at: Maps an outer step to its training and validation data.
        learned_at: Maps a horizon in inner steps to the hyperparameters that are learned.
        begin: Makes the inner run of an outer step from its data, its schedule and its number.
        options: How to move, and when to end.
        trainer: Takes the inner runs to their end.
        progress: Where to go on; the start unless given.

    Yields:
        Each outer step, once its values have been moved.
    """
    while progress.number < options.steps:
        number, data = progress.number, data_at(progress.number)
        learned = learned_at(data.problem.horizon)
        state, columns = outer_optimizer.start(learned)
        state = progress.state or state
        bases = {each.name: each.over for each in learned}
        learned_for = data.problem.optimizer.learned_for(data.problem.model)
        schedule = Schedule.from_flat(state.values, bases, learned_for)
        need = partial(MemoryNeed.of, data.problem, schedule)
        with explaining(need):  # of reverse mode that has no need yet
            inner = begin(data, schedule, number)
        with explaining(partial(need, reverse=isinstance(inner, ReverseRun))):
            seen = trainer.train(inner, data.validation)
            found = None
            if inner.done and inner.is_finite():
                found = trainer.differentiate(inner, data.batches)
            costs = [inner.cost()]
            if found is not None and options.sign_agreement:
                others = _others(data, schedule, number, begin, options.sign_agreement, costs)
                with torch.random.fork_rng():  # what is drawn for them moves nothing else
                    found = with_sign_agreement(found, trainer.repeat(others, data.batches, inner))
        gradients, products = map(sum, zip(*costs, strict=True))
        cost = Spent(trainer.seconds, gradients, products, trials=len(costs))
        progress = OuterProgress(
            number + 1,
            outer_optimizer.step(state, None if found is None else found.values, columns),
            _better(progress.best, Best(number, schedule, seen)),
            progress.spent.plus(cost),
        )
        ended = options.end(progress, cost, columns)
        if (found is None or outer_optimizer.all_lost(found.values)) and not any(state.moves):
            ended = "training diverges at the starting values: start from smaller ones"
        assert seen.validation_loss is not None
        assert seen.validation_accuracy is not None
        yield OuterStep(
            _from_here(schedule, data.problem, options, seen, number),
            (math.nan,) * len(state.values) if found is None else found.values,
            seen.validation_loss,
            seen.validation_accuracy,
            () if found is None else found.diagnostics,
            gradients,
            products,
            number,
            options.horizon(number),
            inner.horizon,
            inner.contributing,
            inner.step if found is None else None,
            () if found is None else tuple(found.complaints(schedule)),
            None if found is None else doubts(found, schedule),
            progress,
            ended,
        )
        if ended is not None:
            return


def _others(
    data: OuterData,
    schedule: Schedule,
    number: int,
    begin: Callable[[OuterData, Schedule, int], ForwardRun | ReverseRun],
    count: int,
    costs: list[tuple[int, int]],
) -> Iterator[ForwardRun | ReverseRun]:
    """Further runs from nudged weights, one at a time; what each took is added to `costs`."""
    for k in range(count):
        torch.manual_seed(seed_of("trajectory", number, k))
        problem = data.problem._replace(theta=nudged(data.problem.theta, k))
        inner = begin(data._replace(problem=problem), schedule, number)
        yield inner
        costs.append(inner.cost())


def _from_here(
    schedule: Schedule, problem: InnerProblem, options: OuterOptions, seen: Evaluation, number: int
) -> Schedule:
    """The schedule of an outer step, with what a file says of where it comes from."""
    origin = Origin(
        problem.horizon,
        options.horizon(number),
        outer_step=number,
        validation_loss=seen.validation_loss,
        validation_accuracy=seen.validation_accuracy,
        network=type(problem.model.module).__qualname__,
    )
    return Schedule(schedule, schedule.bases, schedule.learned_for, origin)


def _better(best: Best | None, step: Best) -> Best | None:
    """The better of two outer steps; one whose loss is not finite is never kept."""
    if not math.isfinite(_key(step)[0]):
        return best
    return step if best is None or _key(step) > _key(best) else best


def _key(step: Best) -> tuple[float, float]:
    accuracy, loss = step.evaluation.validation_accuracy, step.evaluation.validation_loss
    assert accuracy is not None
    assert loss is not None
    return selection_key(accuracy, loss)
