"""A look at the members of a multi-run before any of them begins: which can, and what they cost."""

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hypergrad.config.checks import ConfigError
from hypergrad.data import DataError
from hypergrad.drivers.context import LAYOUTS, prepare
from hypergrad.drivers.members import Member

__all__ = ["FirstLook", "look_at", "nothing_to_run", "one_line"]


class FirstLook(NamedTuple):
    """What can be said of members before any of them begins.

    Attributes:
        refused: Those that cannot begin, and why.
        costs: Gradient evaluations of the others, 0 where a budget ends them.
    """

    refused: dict[str, ValueError]
    costs: dict[str, float]


def look_at(members: Sequence[Member]) -> FirstLook:
    """Try every data set, and every way to use it, once, before any member begins.

    Args:
        members: Those that are left to run.
    """
    look = FirstLook({}, {})
    seen: dict[tuple[str, str], int | DataError] = {}
    for member in members:
        try:
            look.costs[member.name] = _try(member, seen)
        except ValueError as error:
            look.refused[member.name] = error
    return look


def _try(member: Member, seen: dict[tuple[str, str], int | DataError]) -> float:
    """Return the gradient evaluations of a member, 0 where a budget ends it.

    Args:
        member: Which.
        seen: Training images of each data set and driver, or why there are none; added to.

    Raises:
        ValueError: If it cannot begin.
    """
    if member.members:
        costs, errors = [], []
        for own in member.members:
            try:
                costs.append(_try(own, seen))
            except ValueError as error:
                errors.append(error)
        if not costs:
            raise errors[0]
        return sum(costs)
    config = member.config
    key = repr(config.data), config.driver
    if key not in seen:
        try:
            seen[key] = len(prepare(config).data.train)
        except DataError as error:
            seen[key] = error
    images = seen[key]
    if isinstance(images, DataError):
        raise images
    if config.budget is not None:
        return 0.0
    repeats = 1 if config.driver == "hypervariance" else len(config.seeds)
    return repeats * LAYOUTS[config.driver](config, images, 1).cost


def nothing_to_run(refused: Mapping[str, ValueError]) -> ValueError:
    """Return what to raise when no member can begin: the reason, or that there are several.

    Args:
        refused: All members, and why each cannot.
    """
    reasons = {name: one_line(error) for name, error in refused.items()}
    if len(set(reasons.values())) == 1:
        return next(iter(refused.values()))
    for name, why in reasons.items():
        print(f"hypergrad: {name}: {why}", file=sys.stderr)
    return ConfigError(f"{len(refused)} of {len(refused)} failed: {', '.join(refused)}")


def one_line(error: Exception) -> str:
    """Return what an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
