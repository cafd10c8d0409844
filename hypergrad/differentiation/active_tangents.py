"""Which tangents an inner step touches: everything about the step that is no arithmetic.

There are few different plans in a run, a window or two each, so whatever is prepared for one
(a recorded graph of kernels, say) serves many steps.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from hypergrad.core.basis import Basis, is_truncated, span
from hypergrad.core.inner_optimizer import BoundOptimizer
from hypergrad.core.schedule import Schedule

__all__ = ["ActiveTangents", "Direct", "active_tangents_at", "spans"]


class Direct(NamedTuple):
    """A row whose coefficient the step's values depend on directly.

    Attributes:
        row: Of the tangents.
        name: Of the hyperparameter.
        entry: Of its value, where that is a vector.
    """

    row: int
    name: str
    entry: int


class ActiveTangents(NamedTuple):
    """Rows of the tangents, which stand for the coefficients of a schedule.

    Attributes:
        direct: Those that the step's values depend on.
        weights: By how much, one a direct row.
        moving: Rows that the recursion moves; later windows have not begun.
        live: Those among them that need a product with the Hessian, or one with the mixed
            derivatives of the loss by the parameters and its hyperparameters.
        reached: For each row, whether Z can differ from zero after the step.
    """

    direct: tuple[Direct, ...]
    weights: tuple[float, ...]
    moving: tuple[int, ...]
    live: tuple[int, ...]
    reached: tuple[bool, ...]


def active_tangents_at(
    optimizer: BoundOptimizer,
    schedule: Schedule,
    step: int,
    horizon: int,
    truncation: float,
    reached: tuple[bool, ...],
) -> ActiveTangents:
    """Return what an inner step touches.

    Args:
        optimizer: Says what each hyperparameter sets.
        schedule: The values in use.
        step: 0-based inner step.
        horizon: `T`, inner steps.
        truncation: `tau`: the first `floor(tau n)` of a window's `n` steps leave its hyperparameter
            alone.
        reached: For each row, whether Z can differ from zero before the step.

    Returns:
        The rows in use, those that move, and those that need a product.
    """
    direct: list[Direct] = []
    weights: list[float] = []
    moving: list[int] = []
    first = 0
    for name, own in schedule.items():
        basis, size = schedule.bases[name], schedule.bases[name].size
        if own and not is_truncated(basis, step, horizon, truncation):
            for function, weight in basis.weights(step, horizon):
                for entry in range(size):
                    direct.append(Direct(first + function * size + entry, name, entry))
                    weights.append(weight)
            for function, start in enumerate(_starts(basis, horizon)):
                if start <= step:
                    moving.extend(range(first + function * size, first + (function + 1) * size))
        first += len(own)
    # While every learning rate is zero nothing can reach Z: the first outer step needs no product.
    curved = optimizer.can_move(schedule)
    moves = optimizer.moves(schedule, step, horizon)
    at_once = {each.row for each in direct if optimizer.is_rate(each.name)}
    of_loss = {each.row for each in direct if optimizer.by_name[each.name].of_loss}
    movers = set(moving)
    after = tuple(
        was or row in at_once or (row in movers and moves) for row, was in enumerate(reached)
    )
    live = tuple(row for row in moving if reached[row] or row in of_loss) if curved else ()
    return ActiveTangents(tuple(direct), tuple(weights), tuple(moving), live, after)


def spans(rows: Sequence[int]) -> list[slice]:
    """Return rising rows as slices, which unlike a list ask the host for no index tensor.

    >>> spans((0, 1, 2, 5))
    [slice(0, 3, None), slice(5, 6, None)]
    """
    found: list[slice] = []
    for row in rows:
        if found and found[-1].stop == row:
            found[-1] = slice(found[-1].start, row + 1)
        else:
            found.append(slice(row, row + 1))
    return found


@lru_cache(maxsize=64)
def _starts(basis: Basis, horizon: int) -> tuple[int, ...]:
    """The first step at which each function of a basis is not zero."""
    return tuple(span(basis, function, horizon).start for function in range(basis.count))
