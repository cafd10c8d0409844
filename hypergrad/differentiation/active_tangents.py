"""Which tangents an inner step touches: everything about the step that is no arithmetic.

There are few different plans in a run, a window or two each, so whatever is prepared for one
(a recorded graph of kernels, say) serves many steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

from hypergrad.core.schedule import KINDS, Schedule, Window, truncated_steps

__all__ = ["ActiveTangents", "active_tangents_at", "spans"]


class ActiveTangents(NamedTuple):
    """Rows of `Z` and `C`, which stand for the values of a schedule.

    Attributes:
        alpha: Row of the learning rate in use; None where its kind is truncated or has no values.
        beta: Row of the momentum in use, likewise.
        mu: Row of the weight decay in use, likewise.
        moving: Rows that the recursion moves; later windows have not begun.
        live: Those among them whose Hessian product can differ from zero.
        reached: For each row, whether Z can differ from zero after the step.
    """

    alpha: int | None
    beta: int | None
    mu: int | None
    moving: tuple[int, ...]
    live: tuple[int, ...]
    reached: tuple[bool, ...]


def active_tangents_at(
    schedule: Schedule,
    step: int,
    horizon: int,
    truncation: float,
    reached: tuple[bool, ...],
    share: Sequence[int] | None = None,
) -> ActiveTangents:
    """Return what an inner step touches.

    Args:
        schedule: The values in use.
        step: 0-based inner step.
        horizon: `T`, inner steps.
        truncation: `tau`: the first `floor(tau n)` of a window's `n` steps leave its kind alone.
        reached: For each row, whether Z can differ from zero before the step.
        share: The values that `Z` and `C` have rows for, where others carry the rest; all unless
            given. Rows are counted within it, as `reached` is.

    Returns:
        The rows in use, those that move, and those that need a product.
    """
    place = None if share is None else {value: row for row, value in enumerate(share)}
    in_use: list[int | None] = []
    moving: list[int] = []
    first = 0
    values = schedule.at(step, horizon)
    for _, count, index in zip(KINDS, schedule.counts, values.indices, strict=True):
        if count == 0:
            in_use.append(None)
            continue
        start, stop = -(-index * horizon // count), -(-(index + 1) * horizon // count)
        truncated = step - start < truncated_steps(Window(start, stop), truncation)
        in_use.append(None if truncated else first + index)
        if not truncated:
            moving.extend(range(first, first + index + 1))
        first += count
    if place is not None:
        in_use = [None if value is None else place.get(value) for value in in_use]
        moving = [place[value] for value in moving if value in place]
    alpha, beta, mu = in_use
    # While every learning rate is zero, C cannot reach Z: the first outer step needs no product.
    curved = any(schedule.learning_rate)
    after = tuple(
        was or row == alpha or (row in moving and values.alpha != 0)
        for row, was in enumerate(reached)
    )
    live = tuple(row for row in moving if reached[row]) if curved else ()
    return ActiveTangents(alpha, beta, mu, tuple(moving), live, after)


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
