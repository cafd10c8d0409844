"""The outer loop, held in one's hand: each `next` trains, differentiates, and moves the values.

    search = OuterSearch(problem, options, trainer)
    for step in search:
        ...  # log it, show it, save step.after, or break off

Each outer step trains anew, on data of its own. `OuterProgress` is all that the next one needs, so
a search goes on from any step that it has given; broken off in the middle of one, from there.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core import outer_optimizer
from hypergrad.core.budget import Spent
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.outer_optimizer import OuterState
from hypergrad.core.schedule import Schedule
from hypergrad.core.schedule_file import Origin
from hypergrad.core.seeding import seed_of
from hypergrad.differentiation.result import Hypergradients, complaints
from hypergrad.training.differentiated_run import ForwardRun, ReverseRun
from hypergrad.training.inner_loop import Trainer
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.out_of_memory import MemoryNeed, explaining
from hypergrad.training.outer_loop import (
    Best,
    Evaluation,
    OuterData,
    OuterOptions,
    OuterProgress,
    OuterStep,
)
from hypergrad.training.random_state import random_state, set_random_state
from hypergrad.training.sign_agreement import doubts, nudged, with_sign_agreement
from hypergrad.training.trajectories import Trajectory, diverged, stands_still, together

__all__ = ["OuterProblem", "OuterSearch"]

Snapshot = tuple[Mapping[str, Tensor], Mapping[str, object]]


class OuterProblem(NamedTuple):
    """What is searched.

    Attributes:
        data_at: Maps an outer step to its training and validation data.
        learned_at: Maps a horizon in inner steps to the hyperparameters that are learned.
        begin: Makes the inner run of an outer step from its data, its schedule and its number.
        another: Maps an outer step, and the number of a further trajectory from 1 on, to data with
            other initial weights, order and split; needed for `OuterOptions.trajectories`.
    """

    data_at: Callable[[int], OuterData]
    learned_at: Callable[[int], Sequence[Hyperparameter]]
    begin: Callable[[OuterData, Schedule, int], ForwardRun | ReverseRun]
    another: Callable[[int, int], OuterData] | None = None


class _UnderWay(NamedTuple):
    """A trajectory of an outer step that has begun."""

    data: OuterData
    schedule: Schedule
    state: OuterState
    columns: Sequence[Hyperparameter]
    inner: ForwardRun | ReverseRun


class OuterSearch(Iterator[OuterStep]):
    """Outer steps until the loop has converged, is stale, or has spent what it may.

    What breaks off an outer step (Ctrl-C, an error of whoever watches) leaves the search where it
    was: the next `next` goes on from between the two inner steps, or, if one was broken off in its
    middle, from where this outer step was last begun; to the same bits.

    Args:
        problem: What is searched.
        options: How to move, and when to end.
        trainer: Takes the inner runs to their end.
        progress: Where to go on; the start unless given.
        before: Trajectories of the outer step that comes next, where the trainer goes on in a later
            one: `InnerRun.before` of that.

    Attributes:
        progress: Where it is, between two outer steps.
        ended: Why it has ended; empty if all outer steps were taken, None while it goes on.
    """

    def __init__(
        self,
        problem: OuterProblem,
        options: OuterOptions,
        trainer: Trainer,
        progress: OuterProgress = OuterProgress(),  # noqa: B008 (immutable)
        before: Sequence[Mapping[str, object]] = (),
    ) -> None:
        if options.trajectories > 1 and problem.another is None:
            raise ValueError(f"trajectories={options.trajectories}: give OuterProblem.another")
        self.problem, self.options, self.trainer = problem, options, trainer
        self.progress = progress
        self.ended: str | None = None
        self._before = tuple(before)
        self._now: _UnderWay | None = None  # the trajectory that is being trained
        self._held: ForwardRun | ReverseRun | None = None  # broken off between two steps
        self._snapshot: Snapshot | None = None  # the same, of another process
        self._random_state: Mapping[str, Tensor] | None = None  # where the generators were then

    def __next__(self) -> OuterStep:
        if self.is_over:
            raise StopIteration
        snapshot, where = self.under_way(), self._random_state
        if where is None:
            where = random_state()
        elif snapshot is None:
            set_random_state(where)
        # Where to go on if this breaks off in the middle of an inner step.
        self._held, self._snapshot, self._random_state = None, snapshot, where
        before = self._before if snapshot is None else _before(snapshot)
        now = self._begin(tuple(map(Trajectory.from_dict, before)))
        self._before = ()
        if snapshot is not None:
            now.inner.restore(*snapshot)
            set_random_state(where)
        self._now = now
        del now  # what it keeps is let go before another trajectory begins
        try:
            step = self._take()
        except BaseException:
            if self.trainer.at_rest and self._now is not None:
                held = self._now.inner
                self._held, self._snapshot, self._random_state = held, None, random_state()
            raise
        finally:
            self._now = None
        self._held = self._snapshot = self._random_state = None
        self.progress, self.ended = step.after, step.ended
        return step

    @property
    def is_over(self) -> bool:
        """Whether no outer step is left."""
        return self.ended is not None or self.progress.number >= self.options.steps

    def under_way(self) -> Snapshot | None:
        """Return a snapshot of the inner run that was broken off; None between two of them."""
        return self._snapshot if self._held is None else self._held.snapshot()

    @property
    def random_state(self) -> Mapping[str, Tensor]:
        """Where the generators are for the step that comes next."""
        return random_state() if self._random_state is None else self._random_state

    def go_to(
        self,
        progress: OuterProgress,
        ended: str | None,
        random_state: Mapping[str, Tensor],
        under_way: Snapshot | None = None,
    ) -> None:
        """Go on from where another search was.

        Args:
            progress: Its own.
            ended: Likewise.
            random_state: Likewise.
            under_way: As `under_way` gave it.
        """
        self.progress, self.ended, self._random_state = progress, ended, random_state
        self._held, self._snapshot = None, under_way

    def _begin(self, before: Sequence[Trajectory]) -> _UnderWay:
        """Begin the trajectory of the outer step that comes after others."""
        number, count = self.progress.number, len(before)
        if count:
            assert self.problem.another is not None
            data = self.problem.another(number, count)
        else:
            data = self.problem.data_at(number)
        learned = self.problem.learned_at(data.problem.horizon)
        state, columns = outer_optimizer.start(learned)
        state = self.progress.state or state
        bases = {each.name: each.over for each in learned}
        learned_for = data.problem.optimizer.learned_for(data.problem.model)
        schedule = Schedule.from_flat(state.values, bases, learned_for)
        with explaining(partial(MemoryNeed.of, data.problem, schedule)):
            inner = self.problem.begin(data, schedule, number)
        inner.before = tuple(each.as_dict() for each in before)
        return _UnderWay(data, schedule, state, columns, inner)

    def _take(self) -> OuterStep:
        """Take the outer step that has begun to its end."""
        assert self._now is not None
        done = [Trajectory.from_dict(each) for each in self._now.inner.before]
        done.append(self._train(self._now))
        while len(done) < self.options.trajectories:
            self._now = None
            self._now = self._begin(done)
            done.append(self._train(self._now))
        return self._step(self._now, done)

    def _train(self, now: _UnderWay) -> Trajectory:
        """Take a trajectory to its end, there and back."""
        data, schedule, inner = now.data, now.schedule, now.inner
        trainer, reverse = self.trainer, isinstance(inner, ReverseRun)
        with explaining(partial(MemoryNeed.of, data.problem, schedule, reverse=reverse)):
            seen = trainer.train(inner, data.validation)
            found = None
            if inner.came_through():
                found = trainer.differentiate(inner, data.batches)
            costs = [inner.cost()]
            if found is not None and self.options.sign_agreement:
                found = self._compared(now, found, costs)
        gradients, products = map(sum, zip(*costs, strict=True))
        spent = Spent(trainer.seconds, gradients, products, trials=len(costs))
        if found is None:
            return Trajectory(seen, spent, inner.step)
        return Trajectory(seen, spent, inner.step, found.values, found.diagnostics)

    def _step(self, now: _UnderWay, done: Sequence[Trajectory]) -> OuterStep:
        """Return the outer step that trajectories make, and where the loop is after it."""
        number, options, (_, schedule, state, columns, inner) = (
            self.progress.number,
            self.options,
            now,
        )
        found = done[0] if options.trajectories == 1 else together(done)
        seen, values, cost = found.seen, found.values, found.spent
        best, step = self.progress.best, Best(number, schedule, seen)
        if step.is_finite:
            best = step if best is None else best.or_better(step, options.select)
        still = stands_still(found.diagnostics)
        after = OuterProgress(
            number + 1,
            outer_optimizer.step(state, values, columns, still, options.descent),
            best,
            self.progress.spent.plus(cost),
        )
        ended = options.end(after, cost, columns)
        if values is None and not any(state.moves):
            ended = "training diverges at the starting values: start from smaller ones"
        elif values is not None and outer_optimizer.all_lost(values) and not any(state.moves):
            ended = (
                "no hypergradient is a finite number at the starting values, though training is: "
                "smaller ones may help; in a rule of one's own, hypergrad.core.rules.safe_sqrt"
            )
        assert seen.validation_loss is not None
        assert seen.validation_accuracy is not None
        return OuterStep(
            _from_here(schedule, now.data.problem, options, seen, number),
            (math.nan,) * len(state.values) if values is None else values,
            seen.validation_loss,
            seen.validation_accuracy,
            found.diagnostics,
            cost.gradients,
            cost.products,
            number,
            options.horizon(number),
            inner.horizon,
            inner.contributing,
            found.step if values is None else None,
            () if values is None else tuple(complaints(schedule, values, found.diagnostics)),
            diverged(done) or (None if values is None else doubts(found.diagnostics, schedule)),
            after,
            ended,
            seen.test_accuracy,
        )

    def _compared(
        self, now: _UnderWay, found: Hypergradients, costs: list[tuple[int, int]]
    ) -> Hypergradients:
        """Compare signs with further trajectories; what each took is added to `costs`."""
        with torch.random.fork_rng():  # what is drawn for them moves nothing else
            others = self._others(now, costs)
            return with_sign_agreement(
                found, self.trainer.repeat(others, now.data.batches, now.inner)
            )

    def _others(
        self, now: _UnderWay, costs: list[tuple[int, int]]
    ) -> Iterator[ForwardRun | ReverseRun]:
        """Further runs from nudged weights, one at a time."""
        number, problem = self.progress.number, now.data.problem
        for k in range(self.options.sign_agreement):
            torch.manual_seed(seed_of("trajectory", number, k))
            other = problem._replace(theta=nudged(problem.theta, k))
            inner = self.problem.begin(now.data._replace(problem=other), now.schedule, number)
            yield inner
            costs.append(inner.cost())


def _before(snapshot: Snapshot) -> Sequence[Mapping]:
    """Trajectories that came before the one of a snapshot."""
    before = snapshot[1].get("before", ())
    assert isinstance(before, list | tuple)
    return before


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
