"""Moves of a base schedule: few coordinates `p`, of which zero is the base itself.

Every learned hyperparameter moves on the scale of its declaration, by `m_t = sum_i B_ti p_i` over
the declaration's basis:

    linear  value_t = base_t + m_t                log    value_t = base_t exp(m_t)
    log1m   1 - value_t = (1 - base_t) exp(-m_t)  logit  logit(value_t) = logit(base_t) + m_t

A rate is held as it is felt, `rate / (1 - inertia)`, while the rule's inertia moves, and a
candidate's factor multiplies it. Values are ordinary schedules, with one value for each step.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.basis import Basis, Vector, WarmUp, Windows
from hypergrad.core.hyperparameters import EDGE, Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.schedule import Schedule

__all__ = ["Candidate", "MoveSpace"]

FARTHEST = 8.0  # on any scale but the linear one: a factor of 3000


class Candidate(NamedTuple):
    """A schedule of a move space.

    Attributes:
        moves: `p`, one after another for all that moves.
        factor: Multiplies every rate.
    """

    moves: tuple[float, ...]
    factor: float = 1.0


@dataclass(frozen=True)
class MoveSpace:
    """What moves, and from where.

    Attributes:
        optimizer: Declares what moves: basis, scale, bounds; `first_move` is the length of a step
            of radius 1.
        base: A value of everything that moves, and of whatever else is to be set; it stretches to
            any horizon.

    Raises:
        ValueError: If nothing moves, or the base cannot move on its scale.
    """

    optimizer: InnerOptimizer
    base: Schedule

    def __post_init__(self) -> None:
        if not self._moving:
            raise ValueError("nothing moves: declare a hyperparameter with learned=True")
        for each in self._moving:
            if each.name not in self.base:
                raise ValueError(f"the base has no {each.name}, which moves: give it a value")
            given = self.base[each.name]
            if each.over.size > 1 and self.base.bases[each.name] != each.over:
                raise ValueError(f"the base of {each.name}, a vector, must be over its basis")
            low, high = (-math.inf if each.low is None else each.low), each.range[1]
            if each.scale == "log" and not any(given):
                raise ValueError(
                    f"{each.name} is zero in the base and cannot move on a log scale: give it a "
                    "base above zero, or learned=False"
                )
            if each.over.size > 1 or isinstance(self.base.bases[each.name], Windows):
                wrong = [value for value in given if not low <= value <= high]
                if wrong:
                    raise ValueError(f"{each.name}={wrong[0]} in the base: not in its bounds")

    @property
    def size(self) -> int:
        """Coordinates."""
        return sum(each.over.count * each.over.size for each in self._moving)

    @property
    def origin(self) -> Candidate:
        """The base itself."""
        return Candidate((0.0,) * self.size)

    @cached_property
    def names(self) -> tuple[tuple[str, int], ...]:
        """(hyperparameter, index) of every coordinate."""
        return tuple(
            (each.name, i) for each in self._moving for i in range(each.over.count * each.over.size)
        )

    @cached_property
    def reach(self) -> tuple[float, ...]:
        """By how much every coordinate moves in a step of radius 1."""
        return tuple(
            each.first_move
            for each in self._moving
            for _ in range(each.over.count * each.over.size)
        )

    def moved(self, candidate: Candidate, by: tuple[float, ...]) -> Candidate:
        """Return the candidate whose coordinates are moved, within limits.

        Args:
            candidate: From where.
            by: In multiples of `reach`.
        """
        limits = [
            math.inf if each.scale == "linear" else FARTHEST
            for each in self._moving
            for _ in range(each.over.count * each.over.size)
        ]
        moves = tuple(
            min(max(p + reach * step, -limit), limit)
            for p, reach, step, limit in zip(candidate.moves, self.reach, by, limits, strict=True)
        )
        return candidate._replace(moves=moves)

    def values(self, p: Tensor, horizon: int, factor: float = 1.0) -> dict[str, Tensor]:
        """Return the values of all that moves, differentiable by `p`.

        Args:
            p: `(size,)` float64.
            horizon: `T`, inner steps.
            factor: Multiplies every rate.

        Returns:
            By name `(T,)`; of a vector its `(count size,)` coefficients.
        """
        found: dict[str, Tensor] = {}
        sizes = [each.over.count * each.over.size for each in self._moving]
        for each, own in zip(self._moving, p.split(sizes), strict=True):
            base, B = self._base(each.name, horizon), _matrix(each.over, horizon)
            found[each.name] = _on_scale(each, base, own if B is None else B @ own)
        rule = self.optimizer.rule
        felt = next((each for each in self._moving if self._is_inertia(each)), None)
        if felt is not None:
            found[felt.name] = _within(felt, found[felt.name])
        for each in self._moving:
            if each.target == rule.rate:
                found[each.name] = found[each.name] * factor
                if felt is not None:
                    held = (1 - found[felt.name]) / (1 - self._base(felt.name, horizon))
                    found[each.name] = found[each.name] * held
            found[each.name] = _within(each, found[each.name])
        return found

    def schedule(self, candidate: Candidate, horizon: int) -> Schedule:
        """Return a candidate as a schedule with a value for each step, or one where all are equal.

        Args:
            candidate: Of this space.
            horizon: `T`, inner steps.
        """
        p = torch.tensor(candidate.moves, dtype=torch.float64)
        values: dict[str, tuple[float, ...]] = dict(self.base.items())
        bases = self.base.bases
        moving = self.values(p, horizon, candidate.factor)
        for each in self._moving:
            own = tuple(moving[each.name].tolist())
            if each.over.size > 1:
                values[each.name] = own
                continue
            values[each.name] = own[:1] if len(set(own)) == 1 else own
            bases[each.name] = Windows(len(values[each.name]))
        return Schedule(values, bases, self.optimizer.learned_for())

    def pulled(
        self, candidate: Candidate, horizon: int, hypergradients: Mapping[str, Tensor]
    ) -> tuple[float, ...]:
        """Return the derivative by the coordinates, from that by the values: the chain rule.

        Args:
            candidate: Where.
            horizon: `T`, inner steps.
            hypergradients: Of what `values` returns, by name, of the same shapes.
        """
        p = torch.tensor(candidate.moves, dtype=torch.float64, requires_grad=True)
        values = self.values(p, horizon, candidate.factor)
        total = torch.stack([(own * hypergradients[name]).sum() for name, own in values.items()])
        (found,) = torch.autograd.grad(total.sum(), p)
        return tuple(found.tolist())

    @cached_property
    def _moving(self) -> tuple[Hyperparameter, ...]:
        return tuple(self.optimizer.learned())

    def _is_inertia(self, each: Hyperparameter) -> bool:
        """One for all parameters: of several it could not be said which rate each belongs to."""
        rule = self.optimizer.rule
        return rule.inertia is not None and each.target == rule.inertia and each.where is None

    def _base(self, name: str, horizon: int) -> Tensor:
        key = name, horizon
        if key not in self._kept:
            if self.base.bases[name].size > 1:
                own = self.base[name]
            else:
                own = [self.base.at(step, horizon)[name] for step in range(horizon)]
            self._kept[key] = torch.tensor(own, dtype=torch.float64).reshape(len(own), -1)[:, 0]
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[tuple[str, int], Tensor]:
        return {}


@cache
def _matrix(basis: Basis, horizon: int) -> Tensor | None:
    """`(T, count)` of a basis; None for a vector's, whose coefficients move themselves."""
    if basis.size > 1 or isinstance(basis, Vector):
        return None
    while isinstance(basis, WarmUp):  # the base has one already, and a product keeps it
        basis = basis.basis
    B = torch.zeros(horizon, basis.count, dtype=torch.float64)
    for step in range(horizon):
        for function, weight in basis.weights(step, horizon):
            B[step, function] += weight
    return B


def _on_scale(each: Hyperparameter, base: Tensor, by: Tensor) -> Tensor:
    if each.scale == "linear":
        return base + by
    if each.scale == "log":
        return base * by.exp()
    if each.scale == "log1m":
        return 1 - (1 - base) * (-by).exp()
    return torch.special.expit(torch.logit(base, eps=EDGE) + by)


def _within(each: Hyperparameter, values: Tensor) -> Tensor:
    return values if each.low is None and each.high is None else values.clamp(each.low, each.high)
