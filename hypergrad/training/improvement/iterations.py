"""Iterations: a direction from fresh trajectories, a line search on fresh common seeds."""

from collections.abc import Sequence
from typing import NamedTuple

from hypergrad.core.move_space import Candidate, MoveSpace
from hypergrad.training.improvement.account import Account
from hypergrad.training.improvement.direction import gated, random_signs
from hypergrad.training.improvement.options import ImproveOptions
from hypergrad.training.improvement.race import Race, race
from hypergrad.training.improvement.trainings import Asking, Key, Outcome, Training

__all__ = ["Iteration", "Walk", "distinct", "walk"]

WIDER = 1.3  # by which the radius grows after a full step
Moves = tuple[float, ...]


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


class Walk(NamedTuple):
    """Where iterations have led to, which there were, and why they ended."""

    end: Candidate
    iterations: tuple[Iteration, ...]
    ended: str


def walk(
    space: MoveSpace, start: Candidate, options: ImproveOptions, account: Account
) -> Asking[Walk]:
    """Ask for the trainings of all iterations.

    Args:
        space: What moves.
        start: From where.
        options: How.
        account: Is told of the trainings, and says whether there is a budget for more.
    """
    at, radius, done = start, options.radius, []
    seen: list[tuple[Moves, int]] = []  # hypergradients, and the iteration that they are of
    for number in range(1, options.iterations + 1):
        if not account.allow_iteration(options):
            return Walk(at, tuple(done), f"the budget of {options.budget} leaves no iteration more")
        collapsed, falls = 0, False
        if options.direction == "random":
            direction = random_signs(space.size, options.seed, "direction", number)
        else:
            outcomes = yield from account.noted(_trajectories(at, options, number))
            alive = [each.hypergradients for each in outcomes if not account.is_dead(each)]
            seen += [(each, number) for each in alive if each is not None]
            collapsed = len(outcomes) - sum(each is not None for each in alive)
            falls = 2 * collapsed >= len(outcomes)
            # Whatever the others say: beyond a cliff only smaller rates help.
            direction = (0.0,) * space.size if falls else _direction(seen, number, options)
        tried = _candidates(space, at, direction, radius, options, falls)
        found = None
        if len(tried) > 1:
            first = (number - 1) * options.repeats
            given = tried, "search", first, options.repeats, options.margins, account.cap
            found = yield from account.noted(race(*given, iteration=number))
        done.append(Iteration(collapsed, direction, radius, found))
        if found is not None:
            at = tried[found.best][1]
            if found.best == 0:
                radius /= 2
            elif found.best == len(tried) - 1:
                radius *= WIDER
    still = done and done[-1].race is None
    ended = (
        "at last no direction stood out from the scatter" if still else "all iterations are done"
    )
    return Walk(at, tuple(done), ended)


def _direction(seen: Sequence[tuple[Moves, int]], number: int, options: ImproveOptions) -> Moves:
    weights = [options.memory ** (number - earlier) for _, earlier in seen]
    return gated([each for each, _ in seen], weights, options.gate)


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
    return distinct(tried)


def distinct(candidates: list[tuple[str, Candidate]]) -> list[tuple[str, Candidate]]:
    """Return each schedule once, by its first name."""
    seen: dict[Candidate, str] = {}
    for name, candidate in candidates:
        seen.setdefault(candidate, name)
    return [(name, candidate) for candidate, name in seen.items()]
