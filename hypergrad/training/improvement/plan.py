"""The plan: a ladder, iterations, a confirmation, a judgement; which trainings, and what follows.

A generator: it asks for batches of trainings and is sent their outcomes. It is deterministic, so
sending it the recorded outcomes again brings it back to where it was, whoever trained in whatever
order.
"""

import math
from typing import NamedTuple

from hypergrad.core.budget import Spent
from hypergrad.core.move_space import Candidate, MoveSpace
from hypergrad.training.improvement.account import CAP, Account
from hypergrad.training.improvement.interval import Interval, interval
from hypergrad.training.improvement.iterations import Iteration, distinct, walk
from hypergrad.training.improvement.ladder import Rung, climb
from hypergrad.training.improvement.options import ImproveOptions
from hypergrad.training.improvement.race import Race, race
from hypergrad.training.improvement.trainings import Asking, Key, Outcome, Training, capped

__all__ = ["Found", "cap_of", "gain", "improvement"]


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
    account = Account(cap)
    base = ladder = space.origin
    rungs: list[Rung] = []
    if options.scales:
        ladder, rungs = yield from account.noted(climb(base, options, cap))
    end, iterations, ended = yield from walk(space, ladder, options, account)
    finalists = distinct([("base", base), ("ladder", ladder), ("end", end)])
    given = finalists, "confirm", 0, options.final, options.final_margins, cap
    confirmed = yield from account.noted(race(*given, choose=options.choose))
    name, chosen = finalists[confirmed.best]
    loss = accuracy = judged = None
    if options.judged and chosen != base:
        pairs = yield from account.noted(_judgement(base, chosen, options.judged))
        loss = interval([capped(b.loss, cap) - capped(a.loss, cap) for a, b in pairs])
        accuracy = interval([b.accuracy - a.accuracy for a, b in pairs])
        judged = tuple(a.accuracy for a, _ in pairs), tuple(b.accuracy for _, b in pairs)
    return Found(
        chosen,
        name,
        tuple(rungs),
        iterations,
        (tuple(each for each, _ in finalists), confirmed),
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
    what = "the base's rates alone" if found.name == "ladder" else "moved values, rates"
    what += f" x{found.chosen.factor:g}"
    text = f"{what}: loss {found.loss} against the base on {count} fresh trainings"
    if found.accuracy is not None and math.isfinite(found.accuracy.mean):
        text += f", metric {found.accuracy}"
    return text


def _judgement(
    base: Candidate, chosen: Candidate, count: int
) -> Asking[list[tuple[Outcome, Outcome]]]:
    asked = []
    for number in range(count):
        key = Key("judge", number)
        asked += [Training(key, base, name="base"), Training(key, chosen, name="chosen")]
    outcomes = yield tuple(asked)  # all at once: none waits for another
    return list(zip(outcomes[::2], outcomes[1::2], strict=True))
