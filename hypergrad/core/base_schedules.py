"""Schedules to begin from: the declared values, the rates in one of the usual shapes."""

from collections.abc import Sequence

from hypergrad.core.basis import Basis, Cosine, Vector, WarmUp, Windows
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.schedule import Schedule

__all__ = ["SHAPES", "base_schedule"]

SHAPES = ("cosine", "constant", "multistep")
FINE = 100  # windows of a multistep schedule: milestones are whole percents of the run


def base_schedule(
    optimizer: InnerOptimizer,
    shape: str = "cosine",
    *,
    warmup: float = 0.0,
    milestones: Sequence[float] = (0.3, 0.6, 0.8),
    factor: float = 0.2,
) -> Schedule:
    """Return the schedule whose values are those declared, the rates' in a shape.

    Args:
        optimizer: Its declarations give the values: the first coefficient of every `start`.
        shape: `cosine`, annealed to zero by half a cosine; `constant`; or `multistep`.
        warmup: Share of the run over which rates rise linearly at first.
        milestones: Of `multistep`, as shares of the run.
        factor: By which each milestone multiplies the rates.

    Returns:
        A schedule that stretches to any horizon.

    Raises:
        ValueError: For another shape.

    >>> from hypergrad.core.rules.move_sets import movable
    >>> base_schedule(movable("sgd"))["learning_rate"]
    (0.05, 0.05)
    """
    if shape not in SHAPES:
        raise ValueError(f"no shape {shape!r}: use one of {', '.join(SHAPES)}")
    values: dict[str, tuple[float, ...]] = {}
    bases: dict[str, Basis] = {}
    for each in optimizer.hyperparameters:
        if not each.learned:
            continue
        values[each.name], bases[each.name] = each.coefficients, each.over
        if isinstance(each.over, Vector) and each.over.size > 1:
            continue
        start = each.coefficients[0]
        values[each.name], bases[each.name] = (start,), Windows(1)
        if each.target != optimizer.rule.rate:
            continue
        if shape == "cosine":
            values[each.name], bases[each.name] = (start / 2, start / 2), Cosine(2)
        elif shape == "multistep":
            passed = [sum(i >= FINE * m for m in milestones) for i in range(FINE)]
            values[each.name] = tuple(start * factor**count for count in passed)
            bases[each.name] = Windows(FINE)
        if warmup:
            bases[each.name] = WarmUp(warmup, bases[each.name])
    return Schedule(values, bases, optimizer.learned_for())
