"""Improve the schedule that one has: `improve`, a search that is judged on trainings of its own.

found = improve(module, loss, batches, validation, epochs=10, optimizer=sgd_base(0.1, 0.9))
print(found)
optimizer = found.schedule.optimizer(module)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from hypergrad.api.fresh_weights import GivenModule, with_fresh_weights
from hypergrad.api.improvement_record import ImprovementRecord
from hypergrad.api.problem import LibraryProblem
from hypergrad.api.search import _outer_options
from hypergrad.core.budget import Budget
from hypergrad.core.functional_model import Batch
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.objective import Criterion, Loss, Objective
from hypergrad.core.schedule import Schedule
from hypergrad.core.schedule_file import Origin
from hypergrad.data import Batches, Images
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.training.improvement.comparison import Comparison
from hypergrad.training.improvement.moves import Moves
from hypergrad.training.improvement.planner import Improvement, ImprovementOptions
from hypergrad.training.improvement.run import ImprovementRun, Taken, train
from hypergrad.training.improvement.training import Outcome, Training
from hypergrad.training.outer_loop import OuterData

__all__ = ["Improved", "improve"]


@dataclass(frozen=True)
class Improved:
    """What `improve` found.

    Attributes:
        schedule: To train with: the improved one, where it was confirmed as the better one;
            otherwise the base.
        base: The schedule that it began with.
        improved: Which of the two `schedule` is.
        comparison: Both on fresh keys that chose neither; None if nothing moved.
        plan: What every stage found.
        trainings: All that were taken, in order.
    """

    schedule: Schedule
    base: Schedule
    improved: bool
    comparison: Comparison | None
    plan: Improvement
    trainings: tuple[Taken, ...]

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def improve(
    module: GivenModule,
    objective: Objective | Loss | Criterion,
    batches: Callable[[int], Batches],
    validation: Callable[[int], Sequence[Batch] | Images],
    *,
    epochs: int,
    optimizer: InnerOptimizer,
    options: ImprovementOptions | None = None,
    derivatives: ForwardOptions | ReverseOptions | None = None,
    budget: str | None = None,
    record: str | Path | None = None,
    on_training: Callable[[Taken], None] = lambda taken: None,
) -> Improved:
    """Improve a schedule by hypergradients over several trainings, and confirm what came of it.

    A ladder of step sizes first, judged one step from where training collapses; then moves in the
    direction that the hypergradients of several trainings agree on, each tried on fresh trainings;
    then the end against the base on trainings that chose nothing. The base stays a candidate, so
    what is returned is not worse, beyond what the confirmation can tell.

    Args:
        module: Makes the module of a key, on the device and in the precision wanted; or a module,
            of which copies are drawn anew (`reset_parameters`).
        objective: As for `Search`.
        batches: Maps a key to the training batches: other splits and orders for other keys.
        validation: Maps a key to its validation data: batches, or images.
        epochs: How long each training is.
        optimizer: The inner optimiser with the base schedule: as `sgd_base` and `adamw_base` make
            it, or declarations of one's own (`learning_rate` on a `log` scale). What is learned for
            the loss moves along in the same way.
        options: How much is trained, and how it is judged.
        derivatives: How hypergradients are found; reverse mode unless given, or, for a network
            that draws random numbers, forward mode.
        budget: Iterations end where another would overshoot it: `2h`, `60trials` or `1e6gradients`.
        record: A file of outcomes. If it is there, they are replayed, and what is left is trained:
            the same result, to the last bit, as without the interruption.
        on_training: Is told of each training as it is taken.

    Returns:
        The schedule, and how much better it is.

    Raises:
        ValueError: For arguments out of range; for a record of other settings; as `Search`.
    """
    options = options or ImprovementOptions()
    if budget is not None:
        options = replace(options, budget=Budget.parse(budget))
    outer = _outer_options(epochs, 1, (), 0.0, None, None, 0)
    moves = Moves(optimizer.learned(), optimizer.rule)
    found: list[ForwardOptions | ReverseOptions] = [] if derivatives is None else [derivatives]

    def data_of(key: int) -> OuterData:
        network, mode = with_fresh_weights(module, key), found[0] if found else None
        given = network, objective, batches, validation, optimizer, outer, True, mode, "never"
        return LibraryProblem(*given).data_at(key)

    def train_one(training: Training) -> Outcome:
        data = data_of(training.key)
        if training.differentiated and not found:
            found.append(_mode(data, moves))
        outcome = train(training, data, moves, found[0] if found else ReverseOptions())
        if training.differentiated:  # the start-up test once
            found[0] = replace(found[0], self_test=False)
        return outcome

    with ImprovementRecord(record, _settings(moves, options, epochs)) as kept:
        run = ImprovementRun(moves, options, train_one, kept.outcomes)
        for taken in run:
            kept.add(taken)
            on_training(taken)
    assert run.result is not None
    data = data_of(0)
    learned_for = optimizer.learned_for(data.problem.model)
    base = Schedule.from_flat(run.result.base, moves.bases, learned_for)
    origin = _origin(run.result, data, epochs)
    values = Schedule.from_flat(run.result.values, moves.bases, learned_for)
    schedule = Schedule(values, values.bases, learned_for, origin)
    told = run.result.improved, run.result.comparison, run.result
    return Improved(schedule, base, *told, tuple(run.taken))


def _mode(data: OuterData, moves: Moves) -> ForwardOptions | ReverseOptions:
    """Reverse mode, unless the network draws random numbers, which would be others then."""
    problem = data.problem
    schedule = Schedule.from_flat(moves.base, moves.bases)
    bound = problem.optimizer.bind(problem.model, schedule)
    values = bound.step_values(bound.given(schedule, 0, problem.horizon), problem.theta)
    drawn = problem.model.random_source(problem.minibatches.at(0), bound.named(values.loss))
    return ReverseOptions() if drawn is None else ForwardOptions()


def _settings(moves: Moves, options: ImprovementOptions, epochs: int) -> dict[str, object]:
    """What outcomes depend on, as far as it can be compared."""
    return {
        "the base schedule": list(moves.base),
        "the bases": repr(moves.bases),
        "epochs": epochs,
        **{each.name: repr(getattr(options, each.name)) for each in fields(options)},
    }


def _origin(found: Improvement, data: OuterData, epochs: int) -> Origin:
    seen = None
    if found.comparison is not None:
        outcomes = found.comparison.end if found.improved else found.comparison.base
        plain = zip(found.comparison.margins, outcomes, strict=True)
        seen = [outcome for margin, outcome in plain if margin == 1.0]
    network = type(data.problem.model.module).__qualname__
    if seen is None:
        return Origin(data.problem.horizon, epochs, network=network)
    losses = math.fsum(each.loss for each in seen) / len(seen)
    scores = math.fsum(each.accuracy for each in seen) / len(seen)
    return Origin(
        data.problem.horizon,
        epochs,
        validation_loss=losses if math.isfinite(losses) else None,
        validation_accuracy=scores if math.isfinite(scores) else None,
        confirmed_on=len(seen),
        network=network,
    )


def _lines(found: Improved) -> list[str]:
    """What a person wants to know, the gain first."""
    spent, seen = found.plan.spent, found.comparison
    cost = (
        f"cost: {spent.trials} trainings, {spent.gradients:,} gradients, "
        f"{spent.products:,} Hessian products, {spent.seconds:,.0f} s"
    )
    if seen is None:
        return ["nothing to improve: no move was better than the base schedule", cost]
    loss, accuracy, (before, after) = seen.loss, seen.accuracy, seen.collapsed
    verdict = "improved" if found.improved else "not improved: the base schedule stays"
    lines = [
        f"{verdict}; on {loss.pairs} fresh trainings of each, the end less the base:",
        f"  validation loss {loss.mean:+.4g} [{loss.low:+.4g}, {loss.high:+.4g}]",
    ]
    if accuracy.pairs:
        points = (100 * each for each in accuracy[:3])
        lines.append("  accuracy {:+.2f} points [{:+.2f}, {:+.2f}]".format(*points))
    lines.append(
        f"  collapsed, margins included: base {before}, end {after} of {len(seen.margins)} each"
    )
    return [*lines, cost]
