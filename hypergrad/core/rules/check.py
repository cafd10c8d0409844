"""Whether a rule can be differentiated through: a trial on a handful of numbers."""

import math
import warnings
from functools import lru_cache

import torch
from torch import Tensor
from torch.func import jvp

from hypergrad.core.rules.rule import Rule, State

__all__ = ["check_rule"]

SIZE = 8  # parameters of the trial
STEP = 2
CLOSE = 1e-6  # relative, in float64


@lru_cache(maxsize=64)
def check_rule(rule: Rule) -> None:
    """Refuse a rule that hypergradients cannot go through, or that is not what it says.

    Args:
        rule: The rule; it is evaluated on random numbers.

    Raises:
        ValueError: If it changes its arguments, keeps other slots than it says, or takes no tensors
            as values; if nothing of the gradient reaches the parameters but by signs, whose
            derivative is zero; if its derivative is not finite at a gradient of zero; or if it
            mixes parameters without saying so.
    """
    stream = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        return torch.randn(SIZE, generator=stream, dtype=torch.float64)

    g, theta = draw(), draw()
    slots = tuple(0.1 + draw() ** 2 for _ in rule.slots)
    values = {name: 0.1 if math.isnan(v) else v for name, v in rule.defaults.items()}
    copies = [t.clone() for t in (g, theta, *slots)]
    moved, kept = rule.update(g, theta, slots, values, STEP)
    if any(not torch.equal(t, c) for t, c in zip((g, theta, *slots), copies, strict=True)):
        raise ValueError(
            f"the update of {rule.name} changes its arguments: make it return new ones"
        )
    if len(kept) != len(slots) or any(t.shape != theta.shape for t in (moved, *kept)):
        raise ValueError(
            f"{rule.name} keeps {len(slots)} slots ({', '.join(rule.slots) or 'none'}) of the "
            f"parameters' shape, but its update returns {[tuple(t.shape) for t in kept]}"
        )
    if torch.equal(moved, theta):
        return  # it stands still at its defaults: there is nothing to try

    def update(*inputs: Tensor) -> Tensor:
        return rule.update(inputs[0], inputs[1], inputs[2:], values, STEP)[0]

    primals, still = (g, theta, *slots), torch.zeros_like(theta)
    directions = draw(), still, *(draw() for _ in slots)
    with warnings.catch_warnings():
        # PyTorch compiles its own jvp rules on the first call, through what it deprecates.
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)
        along = jvp(update, primals, directions)[1]
    if not along.any():
        raise ValueError(
            f"{rule.name} moves by signs of the gradient, whose derivative is zero wherever there "
            "is one: no hypergradient can come through it; use a rule that is smooth in it"
        )
    if not rule.elementwise:
        return
    try:
        diagonals = rule.diagonals(State(theta, slots), g, values, STEP, tuple(values))[0]
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"the update of {rule.name} does not take its values as tensors of the parameters' "
            f"shape ({str(error).splitlines()[0]}): compute with them as they are, without float()"
        ) from error
    diagonals = diagonals[: len(directions)]
    blocks = zip(diagonals, directions, strict=True)
    alone = sum((block * d for block, d in blocks if block is not None), still)
    if (along - alone).abs().max() > CLOSE * along.abs().max():
        raise ValueError(
            f"the update of {rule.name} mixes parameters, as a norm over them does: say so with "
            "elementwise=False"
        )
    untouched = torch.zeros_like(theta)  # gradient and slots of a weight that no batch has touched
    nothing = State(theta, tuple(untouched for _ in slots))
    for block in rule.diagonals(nothing, untouched, values, STEP, tuple(values))[0]:
        if block is not None and not bool(block.isfinite().all()):
            raise ValueError(
                f"the derivative of {rule.name}'s update is no finite number where gradient and "
                "slots are zero, as those of a weight that no batch touches: use "
                "hypergrad.core.rules.safe_sqrt in place of torch.sqrt"
            )
