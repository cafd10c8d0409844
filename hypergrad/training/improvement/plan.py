"""The plan: a ladder, iterations, a confirmation, a judgement; which trainings, and what follows.

A generator: it asks for batches of trainings and is sent their outcomes. It is deterministic, so
sending it the recorded outcomes again brings it back to where it was, whoever trained in whatever
order.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from hypergrad.core.budget import Spent
from hypergrad.core.move_space import Candidate, MoveSpace
from hypergrad.training.improvement.direction import gated, random_signs
from hypergrad.training.improvement.interval import Interval, interval
from hypergrad.training.improvement.ladder import Rung, climb
from hypergrad.training.improvement.options import ImproveOptions
from hypergrad.training.improvement.race import Race, race
from hypergrad.training.improvement.trainings import (
    Asking,
    Key,
    Outcome,
    Training,
    capped,
)

__all__ = ["Found", "Iteration", "cap_of", "gain", "improvement"]

CAP = 1.3  # times the loss of an untrained network
LEARNED = 0.9  # of the same: below it something was learned
T = TypeVar("T")
WIDER = 1.3  # by which the radius grows after a full step


class Iteration(NamedTuple):
    """One iteration.

    Attributes:
        collapsed: How many of its trajectories.
        direction: Of every coordinate, in [-1, 1].
        radius: Of its line search.
        race: Its line search; None if there was nothing to try.
    """

    collapsed: int
    direction: tuple[float, ...]
    radius: float
    race: Race | None


class Found(NamedTuple):
    """What a plan comes to.

    Attributes:
        chosen: The schedule that was confirmed.
        name: `base`, `ladder` or `end`.
        rungs: Of the ladder.
        iterations: In order.
        confirmation: Names of the candidates, and their race.
        loss: Difference of the validation loss to the base, on keys that chose nothing; None where
            the base was chosen or nothing judged.
        accuracy: The same of the metric.
        judged: Metrics of the base and of what was chosen, on those keys.
        ended: Why the iterations ended.
        spent: What everything cost.
    """

    chosen: Candidate
    name: str
    rungs: tuple[Rung, ...]
    iterations: tuple[Iteration, ...]
    confirmation: tuple[tuple[str, ...], Race]
    loss: Interval | None
    accuracy: Interval | None
    judged: tuple[tuple[float, ...], tuple[float, ...]] | None
    ended: str
    spent: Spent


def cap_of(untrained: float, options: ImproveOptions) -> float:
    """Return what a dead training counts as.

    Args:
        untrained: Validation loss of an untrained network.
        options: May say.

    Raises:
        ValueError: For a loss of which no multiple makes sense.
    """
    if options.cap is not None:
        return options.cap
    if not (untrained > 0 and math.isfinite(untrained)):
        raise ValueError(
            f"the loss of an untrained network is {untrained:g}: give cap=, the loss that a "
            "training counts as which learns nothing"
        )
    return CAP * untrained


def improvement(space: MoveSpace, options: ImproveOptions, cap: float) -> Asking[Found]:
    """Plan the improvement of a base schedule.

    Args:
        space: The base, and what moves.
        options: How.
        cap: What dead trainings count as.

    Yields:
        Batches of trainings; their outcomes are sent back in the same order.
    """
    account = _Account()
    base, rungs = space.origin, ()
    at = base
    if options.scales:
        at, climbed = yield from account.noted(climb(base, options, cap))
        rungs = tuple(climbed)
    ladder, ended, iterations = at, "all iterations are done", []
    H: list[tuple[float, ...]] = []
    weights: list[float] = []
    radius = options.radius
    for number in range(1, options.iterations + 1):
        if not account.allow_iteration(options):
            ended = f"the budget of {options.budget} leaves no iteration more"
            break
        weights = [weight * options.memory for weight in weights]
        collapsed, falls = 0, False
        if options.direction == "random":
            direction = random_signs(space.size, options.seed, "direction", number)
        else:
            outcomes = yield from account.noted(_trajectories(at, options, number))
            alive = [each.hypergradients for each in outcomes if not account.is_dead(each, cap)]
            found = [each for each in alive if each is not None]
            collapsed = len(outcomes) - len(found)
            H, weights = [*H, *found], [*weights, *[1.0] * len(found)]
            falls = 2 * collapsed >= len(outcomes)
            # Whatever the others say: beyond a cliff only smaller rates help.
            direction = (0.0,) * space.size if falls else gated(H, weights, options.gate)
        tried = _candidates(space, at, direction, radius, options, falls)
        if len(tried) == 1:
            iterations.append(Iteration(collapsed, direction, radius, None))
            ended = f"no direction stands out from the scatter in iteration {number}"
            continue
        first = (number - 1) * options.repeats
        given = tried, "search", first, options.repeats, options.margins, cap
        found_race = yield from account.noted(race(*given, iteration=number))
        iterations.append(Iteration(collapsed, direction, radius, found_race))
        at = tried[found_race.best][1]
        if found_race.best == 0:
            radius /= 2
        elif found_race.best == len(tried) - 1:
            radius *= WIDER
    finalists = _distinct([("base", base), ("ladder", ladder), ("end", at)])
    given = finalists, "confirm", 0, options.final, options.final_margins, cap
    confirmed = yield from account.noted(race(*given, choose=options.choose))
    name, chosen = finalists[confirmed.best]
    loss = accuracy = judged = None
    if options.judged and chosen != base:
        pairs = yield from account.noted(_judgement(base, chosen, options.judged))
        loss = interval([capped(b.loss, cap) - capped(a.loss, cap) for a, b in pairs])
        accuracy = interval([b.accuracy - a.accuracy for a, b in pairs])
        judged = tuple(a.accuracy for a, _ in pairs), tuple(b.accuracy for _, b in pairs)
    names = tuple(each for each, _ in finalists)
    return Found(
        chosen,
        name,
        rungs,
        tuple(iterations),
        (names, confirmed),
        loss,
        accuracy,
        judged,
        ended,
        account.spent,
    )


def gain(found: Found) -> str:
    """Return in words what a plan has come to."""
    if found.name == "base":
        return "nothing better than the base was confirmed: it stays"
    if found.loss is None or found.judged is None:
        return "better than the base on the confirmation's seeds, which also chose it"
    count = len(found.judged[0])
    text = f"validation loss {found.loss} against the base on {count} fresh trainings"
    if found.accuracy is not None and math.isfinite(found.accuracy.mean):
        text += f", metric {found.accuracy}"
    return text


def _trajectories(at: Candidate, options: ImproveOptions, number: int) -> Asking[Sequence[Outcome]]:
    first = (number - 1) * options.trajectories
    return (
        yield tuple(
            Training(Key("direction", first + j), at, 1.0, True, number, "here")
            for j in range(options.trajectories)
        )
    )


def _candidates(
    space: MoveSpace,
    at: Candidate,
    direction: tuple[float, ...],
    radius: float,
    options: ImproveOptions,
    falls: bool,
) -> list[tuple[str, Candidate]]:
    """The place itself, and shares of the radius along the direction, or to smaller rates."""
    tried = [("here", at)]
    for share in options.steps:
        step = radius * share
        there = space.moved(at, tuple(step * each for each in direction))
        if falls:
            there = there._replace(factor=at.factor / 2**step)
        tried.append((f"step {share:g}", there))
    return _distinct(tried)


def _distinct(candidates: list[tuple[str, Candidate]]) -> list[tuple[str, Candidate]]:
    """Each schedule once, by its first name."""
    seen: dict[Candidate, str] = {}
    for name, candidate in candidates:
        seen.setdefault(candidate, name)
    return [(name, candidate) for candidate, name in seen.items()]


def _judgement(
    base: Candidate, chosen: Candidate, count: int
) -> Asking[list[tuple[Outcome, Outcome]]]:
    pairs = []
    for number in range(count):
        key = Key("judge", number)
        a, b = yield Training(key, base, name="base"), Training(key, chosen, name="chosen")
        pairs.append((a, b))
    return pairs


class _Account:
    """What has been spent and reached, and whether an iteration more can be afforded."""

    def __init__(self) -> None:
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

    def is_dead(self, outcome: Outcome, cap: float) -> bool:
        """Whether a training collapsed: it is nearer to an untrained network than to the best.

        Where nothing has learned yet, a training that stands still is slow rather than dead.
        """
        untrained, limit = cap / CAP, cap
        if self._least < LEARNED * untrained:
            limit = (self._least + untrained) / 2
        return outcome.diverged or capped(outcome.loss, cap) >= limit

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
