"""Schedules that people come with, as declarations whose coefficients bend them.

    value_t = shape_t sum_i B_ti lambda_i

`shape` falls from 1 as the schedule does, and all `lambda_i` are equal at the start: a coefficient
is the schedule's own height, moved by factors where its `B_i` is.
"""

from collections.abc import Sequence

from hypergrad.core.basis import Basis, Cosine, Hats, Shaped, WarmUp, Windows
from hypergrad.core.gradient_transforms import GradientTransform, NoClip
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.adam import adamw
from hypergrad.core.rules.sgd import sgd

__all__ = ["HELD", "STEP_SIZE", "adamw_base", "annealed", "sgd_base"]

STEP_SIZE = "learning_rate"
# Of plain momentum, a step's size is rate / (1 - momentum): the rate moves along to hold it.
HELD = {"momentum": STEP_SIZE}
FACTORS = 10  # windows of a multistep shape: milestones fall on tenths

Shape = tuple[Basis, tuple[float, ...]]


def annealed(
    kind: str = "cosine",
    basis: Basis | int = 5,
    *,
    warmup: float = 0.0,
    milestones: Sequence[float] = (0.3, 0.6, 0.8),
    factor: float = 0.2,
) -> Basis:
    """Return the basis that bends a common schedule.

    Args:
        kind: `cosine` (half of one, to zero), `linear` (to zero), `multistep` or `constant`.
        basis: What bends it; a number stands for so many hats.
        warmup: Share of the steps that a linear warm-up in front takes, in [0, 1).
        milestones: Of `multistep`, as fractions of the horizon, in tenths.
        factor: By which each multiplies it.

    Raises:
        ValueError: For another kind, or a milestone between tenths.
    """
    shapes: dict[str, Shape] = {
        "cosine": (Cosine(2), (0.5, 0.5)),
        "linear": (Hats(2), (1.0, 0.0)),
        "constant": (Windows(1), (1.0,)),
    }
    if kind == "multistep":
        tenths = [round(FACTORS * milestone, 6) for milestone in milestones]
        if any(tenth != round(tenth) for tenth in tenths):
            raise ValueError(f"milestones={tuple(milestones)}: give tenths of the horizon")
        heights = tuple(factor ** sum(i >= tenth for tenth in tenths) for i in range(FACTORS))
        shapes["multistep"] = Windows(FACTORS), heights
    if kind not in shapes:
        raise ValueError(f"no shape {kind!r}: use cosine, linear, multistep or constant")
    over = Hats(basis) if isinstance(basis, int) else basis
    bent = Shaped(over, *shapes[kind])
    return WarmUp(warmup, bent) if warmup else bent


def sgd_base(
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    shape: Basis | None = None,
    *,
    clip: GradientTransform | None = None,
    others: Sequence[Hyperparameter] = (),
) -> InnerOptimizer:
    """Return SGD with a schedule that is to be improved.

    Args:
        learning_rate: Its height.
        momentum: Constant, in [0, 1).
        weight_decay: Constant, above zero; 0 is left at zero.
        shape: As `annealed` returns it; half a cosine over five hats unless given.
        clip: Of the gradient.
        others: Further hyperparameters: of groups of parameters, or of the loss.
    """
    rate = _rate(learning_rate, shape)
    beta = Hyperparameter("momentum", 1, momentum, 0.6, "complement", low=0.0, high=0.995)
    declared = (rate, beta, *_decay(weight_decay), *others)
    return InnerOptimizer(sgd(), declared, clip or NoClip())


def adamw_base(
    learning_rate: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.01,
    shape: Basis | None = None,
    *,
    clip: GradientTransform | None = None,
    others: Sequence[Hyperparameter] = (),
) -> InnerOptimizer:
    """Return AdamW with a schedule that is to be improved.

    Args:
        learning_rate: Its height.
        beta1: Constant, in [0, 1).
        beta2: Likewise.
        weight_decay: Constant, above zero; 0 is left at zero.
        shape: As for `sgd_base`.
        clip: Of the gradient.
        others: Further hyperparameters.
    """
    betas = (
        Hyperparameter("beta1", 1, beta1, 0.6, "complement", low=0.0, high=0.995),
        Hyperparameter("beta2", 1, beta2, 0.6, "complement", low=0.5, high=0.99999),
    )
    declared = (_rate(learning_rate, shape), *betas, *_decay(weight_decay), *others)
    return InnerOptimizer(adamw(), declared, clip or NoClip())


def _rate(height: float, shape: Basis | None) -> Hyperparameter:
    return Hyperparameter(STEP_SIZE, shape or annealed(), height, 0.6, "log")


def _decay(value: float) -> tuple[Hyperparameter, ...]:
    """Weight decay is felt on a wider scale than the others."""
    return (Hyperparameter("weight_decay", 1, value, 1.5, "log"),) if value else ()
