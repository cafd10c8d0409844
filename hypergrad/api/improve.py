"""Schedules that hold, in one call: a usual one is improved, and confirmed on fresh seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn

from hypergrad.api.fresh_network import fresh
from hypergrad.api.given_data import as_training, as_validation
from hypergrad.core.base_schedules import base_schedule
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.move_space import Candidate, MoveSpace
from hypergrad.core.objective import Criterion, Loss, Objective
from hypergrad.core.rules.move_sets import DEFAULT
from hypergrad.core.schedule import Schedule
from hypergrad.core.schedule_file import Origin
from hypergrad.core.seeding import seed_of
from hypergrad.data import EVALUATION_BATCH, Batches, Images, in_batches
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.training.improvement.follow import Done, follow, one_by_one
from hypergrad.training.improvement.interval import Interval
from hypergrad.training.improvement.options import ImproveOptions
from hypergrad.training.improvement.plan import Found, cap_of, gain, improvement
from hypergrad.training.improvement.trainer import (
    Subject,
    check_goes_back,
    outcome_of,
    untrained_loss,
)
from hypergrad.training.improvement.trainings import Key, Outcome, Training
from hypergrad.training.inner_problem import InnerProblem

__all__ = ["Improvement", "ImproveOptions", "improve"]


@dataclass(frozen=True)
class Improvement:
    """What came of an improvement.

    Attributes:
        schedule: What was chosen: an ordinary schedule with a value for each step; it stretches.
        base: What it began from, in the same form.
        found: Everything that the plan came to: ladder, iterations, confirmation, judgement, cost.
        trainings: All of them with their outcomes, for `history`.
    """

    schedule: Schedule
    base: Schedule
    found: Found
    trainings: tuple[Done, ...]

    @property
    def difference(self) -> Interval | None:
        """Of the validation loss to the base with its 95 % interval, on seeds that chose nothing.

        None where the base itself was chosen, or nothing was judged.
        """
        return self.found.loss

    @cached_property
    def summary(self) -> str:
        """One line: what is gained, and what it cost."""
        spent = self.found.spent
        cost = (
            f"{spent.trials} trainings, {spent.gradients:,} gradients, {spent.products:,} products"
        )
        return f"{gain(self.found)} ({cost}, {spent.seconds:.0f} s)"


def improve(
    module: nn.Module | Callable[[], nn.Module],
    objective: Objective | Loss | Criterion,
    batches: Callable[[int], Batches],
    validation: Callable[[int], Sequence[Batch]],
    *,
    epochs: int,
    optimizer: InnerOptimizer = DEFAULT,
    base: Schedule | str = "cosine",
    warmup: float = 0.0,
    options: ImproveOptions = ImproveOptions(),  # noqa: B008 (frozen)
    reverse: ReverseOptions = ReverseOptions(),  # noqa: B008 (frozen)
    seed: int = 0,
    history: Sequence[Done] = (),
    on_training: Callable[[Training], None] = lambda training: None,
    on_outcome: Callable[[Done], None] = lambda done: None,
) -> Improvement:
    """Improve a usual schedule, and confirm that the new one is better on fresh trainings.

    The base's values are moved by the hypergradients that agree across fresh trajectories: other
    weights, order and split each. Candidates are compared on common seeds, with larger rates than
    their own too; the seeds that choose never judge.

    Args:
        module: Makes a network with fresh weights (random numbers of PyTorch are seeded around it);
            or a network, whose `reset_parameters` do.
        objective: As for `hypergrad.learn`.
        batches: Maps a seed to the minibatches of a training, in random access.
        validation: Maps the same seed to what is held out from them.
        epochs: Of every training.
        optimizer: Declares what moves, and on which scale; `movable` makes one. SGD unless given.
        base: A schedule of all that moves; or the shape of the rates, `cosine`, `constant` or
            `multistep`, from the declared starts.
        warmup: Share of the run over which the base's rates rise at first; of a shape.
        options: How many trainings at each stage, and how far the schedule moves.
        reverse: Memory of reverse mode.
        seed: Of everything.
        history: Trainings of an earlier call with the same arguments, in any order.
        on_training: Is told of every training before it begins.
        on_outcome: Is told of every training that has been done, with its outcome.

    Returns:
        The schedule chosen, the base, and what was found on the way.

    Raises:
        ValueError: For arguments out of range, networks with random numbers of their own (give
            `direction="random"`), and data that cannot go back.
    """
    if epochs < 1:
        raise ValueError(f"{epochs=}: must be at least 1")
    if not (callable(batches) and callable(validation)):
        raise ValueError(
            "batches and validation are functions of a seed: every training draws its own split "
            "and order, such as lambda seed: as_batches(data, 32, key=(seed,))"
        )
    options = replace(options, seed=seed)
    start = base if isinstance(base, Schedule) else base_schedule(optimizer, base, warmup=warmup)
    space = MoveSpace(optimizer, start)
    done: list[Done] = []

    def subject(key: Key) -> Subject:
        own = seed_of(seed, "improve", *key)
        model = FlatModel(fresh(module, own), objective)
        theta = model.theta()
        held_out = as_validation(validation(own), theta.device)
        if isinstance(held_out, Images):
            held_out = list(in_batches(held_out, EVALUATION_BATCH))
        minibatches = as_training(batches(own), theta.device)
        problem = InnerProblem.over_epochs(model, theta, minibatches, epochs, optimizer)
        return Subject(problem, held_out, held_out, own)

    def train(training: Training) -> Outcome:
        on_training(training)
        return outcome_of(training, subject(training.key), space, reverse)

    def note(training: Training, outcome: Outcome) -> None:
        done.append((training, outcome))
        on_outcome(done[-1])

    first = subject(Key("ladder", 0))
    if options.direction == "hypergradients":
        check_goes_back(first.problem, space)
    cap = cap_of(untrained_loss(first), options)
    found = follow(improvement(space, options, cap), one_by_one(train), history, note)
    horizon, known = first.problem.horizon, optimizer.learned_for(first.problem.model)

    def schedule(candidate: Candidate, confirmed: str | None) -> Schedule:
        own = space.schedule(candidate, horizon)
        origin = Origin(
            steps=horizon,
            epochs=epochs,
            seed=seed,
            network=type(first.problem.model.net).__name__,
            confirmed=confirmed,
        )
        return Schedule(own, own.bases, known, origin)

    chosen, kept = schedule(found.chosen, gain(found)), schedule(space.origin, None)
    return Improvement(chosen, kept, found, (*history, *done))
