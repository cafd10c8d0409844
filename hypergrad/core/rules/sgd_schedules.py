"""Schedules of SGD, and those that people set by hand: constant, multistep decay, cosine."""

import math
from collections.abc import Sequence

from hypergrad.core.gradient_transforms import ElementwiseClip, NoClip
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd import NAMES, sgd
from hypergrad.core.schedule import Schedule

__all__ = ["FIRST_MOVES", "paper_optimizer", "preset_schedule", "sgd_schedule"]

FIRST_MOVES = (0.1, 0.15, 4e-4)  # Appendix B


def paper_optimizer(
    counts: Sequence[int] = (5, 1, 1),
    first_moves: Sequence[float] = FIRST_MOVES,
    clip: float | None = None,
) -> InnerOptimizer:
    """Return SGD as the paper learns it: all values from zero, each shared over a window.

    Args:
        counts: Learning rates, momenta and weight decays; what has none is zero and not learned.
        first_moves: First step of the outer optimiser, of each.
        clip: Elementwise limit on the gradient, or None.

    Raises:
        ValueError: If not all three are given.
    """
    for name, given in (("counts", counts), ("first_moves", first_moves)):
        if len(given) != len(NAMES):
            raise ValueError(f"{name}={given!r}: give three, for {', '.join(NAMES)}")
    declared = tuple(
        Hyperparameter(name, count, first_move=move)
        for name, count, move in zip(NAMES, counts, first_moves, strict=True)
        if count
    )
    return InnerOptimizer(sgd(), declared, NoClip() if clip is None else ElementwiseClip(clip))


def sgd_schedule(
    learning_rate: Sequence[float],
    momentum: Sequence[float] = (),
    weight_decay: Sequence[float] = (),
) -> Schedule:
    """Return a schedule of SGD over windows; what has no values is zero and not learned.

    Raises:
        ValueError: Without a learning rate.

    >>> sgd_schedule((0.1, 0.01), (0.9,)).at(5, horizon=10)
    {'learning_rate': 0.01, 'momentum': 0.9}
    """
    if not learning_rate:
        raise ValueError("learning_rate has no value: give at least one")
    return Schedule(dict(zip(NAMES, (learning_rate, momentum, weight_decay), strict=True)))


def preset_schedule(
    kind: str,
    horizon: int,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    milestones: Sequence[float] = (),
    factor: float = 1.0,
) -> Schedule:
    """Return a hand-set schedule as one learning rate a step.

    Args:
        kind: `constant`; `multistep`, decayed at milestones (PyTorch's MultiStepLR); or `cosine`,
            annealed to zero by half a cosine.
        horizon: Inner steps.
        learning_rate: Of the first step.
        momentum: Of all steps.
        weight_decay: Likewise.
        milestones: Of `multistep`, as fractions of the horizon.
        factor: By which each milestone multiplies the learning rate.

    Returns:
        A schedule of `horizon` learning rates, one momentum and one weight decay.

    Raises:
        ValueError: For another kind.

    >>> preset_schedule(
    ...     "multistep", 5, learning_rate=1.0, milestones=(0.3, 0.6, 0.8), factor=0.5
    ... )["learning_rate"]
    (1.0, 1.0, 0.5, 0.25, 0.125)
    """
    if kind not in ("constant", "multistep", "cosine"):
        raise ValueError(f"no schedule {kind!r}: use constant, multistep or cosine")

    def rate(step: int) -> float:
        if kind == "cosine":
            return learning_rate * (1 + math.cos(math.pi * step / horizon)) / 2
        if kind == "multistep":
            passed = sum(step >= milestone * horizon for milestone in milestones)
            return learning_rate * factor**passed
        return learning_rate

    rates = tuple(rate(step) for step in range(horizon))
    return sgd_schedule(rates, (momentum,), (weight_decay,))
