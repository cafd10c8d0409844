"""How each optimiser's values move around a schedule that is usual for it.

A step of radius 1 changes a rate, and one minus an average's memory, by a factor of 1.8; weight
decay, which is felt on a wider scale, by 4.5. (ours)
"""

from collections.abc import Mapping, Sequence

from hypergrad.core.basis import Basis, Hats
from hypergrad.core.gradient_transforms import ElementwiseClip, NoClip
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules import rule_named

__all__ = ["DEFAULT", "movable"]

RATE, WIDE = 0.6, 1.5  # natural logarithms
FORGETFUL = 0.995  # nothing is remembered for longer than 200 steps
USUAL: Mapping[str, Mapping[str, float]] = {
    "sgd": {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "adam": {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 1e-4},
    "adamw": {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01},
    "rmsprop": {"learning_rate": 1e-3, "smoothing": 0.99, "weight_decay": 1e-4},
}


def movable(
    name: str,
    *,
    rates: Basis | int = Hats(5),  # noqa: B008 (frozen)
    clip: float | None = None,
    start: Mapping[str, float] | None = None,
    others: Sequence[Hyperparameter] = (),
    options: Mapping[str, object] | None = None,
) -> InnerOptimizer:
    """Return an optimiser whose values move around usual ones, or those given.

    Args:
        name: `sgd`, `adam`, `adamw` or `rmsprop`.
        rates: Basis of the learning rate's moves; a number stands for so many windows.
        clip: Elementwise limit on the gradient, or None.
        start: Values in place of the usual ones, by name. A weight decay of zero stays zero.
        others: Further hyperparameters, of the loss say.
        options: What the rule takes beside its values.

    Raises:
        ValueError: For another optimiser, or a value that it does not take.
    """
    if name not in USUAL:
        raise ValueError(f"no moves are known of {name!r}: use one of {', '.join(USUAL)}")
    if unknown := sorted(set(start or {}) - set(USUAL[name])):
        raise ValueError(f"{name} has no {unknown[0]}: it has {', '.join(USUAL[name])}")
    declared = []
    for value, usual in {**USUAL[name], **(start or {})}.items():
        if value == "learning_rate":
            own = Hyperparameter(value, rates, usual, RATE, "log")
        elif value == "weight_decay":
            if usual == 0:
                continue
            own = Hyperparameter(value, 1, usual, WIDE, "log")
        else:
            high = max(usual, FORGETFUL if value != "beta2" else 1 - 1e-5)
            own = Hyperparameter(value, 1, usual, RATE, "log1m", low=0.0, high=high)
        declared.append(own)
    transform = NoClip() if clip is None else ElementwiseClip(clip)
    return InnerOptimizer(rule_named(name, options), (*declared, *others), transform)


DEFAULT = movable("sgd")
