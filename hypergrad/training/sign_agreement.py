"""Whether the sign of a hypergradient is reproducible: trajectories that differ in rounding.

Where training is chaotic an exact derivative belongs to one trajectory alone: the last bit of a
weight, another strategy or another machine gives another sign. Signal-to-noise over validation
batches does not see that, since all of them look at the same trajectory.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hypergrad.core.outer_optimizer import sign_of
from hypergrad.core.schedule import Schedule
from hypergrad.core.seeding import generator
from hypergrad.differentiation.diagnostics import HypergradientDiagnostics
from hypergrad.differentiation.result import Hypergradients

__all__ = ["doubts", "nudged", "with_sign_agreement"]


def nudged(theta: Tensor, number: int) -> Tensor:
    """Return weights that differ from others in rounding alone.

    Args:
        theta: `(D,)` weights.
        number: Which of many; each moves every weight another way.

    Returns:
        Each moved up or down by the spacing of floating-point numbers at its magnitude, or at the
        mean magnitude of all, whichever is more: a weight that is zero is moved too.
    """
    coins = torch.randint(0, 2, theta.shape, generator=generator("nudge", number))
    size = theta.abs().clamp_min(theta.abs().mean()) * torch.finfo(theta.dtype).eps
    return theta + size * (2 * coins - 1).to(theta)


def with_sign_agreement(
    found: Hypergradients, others: Sequence[Hypergradients | None]
) -> Hypergradients:
    """Note in the diagnostics how many of other trajectories have the same sign.

    Args:
        found: What is followed.
        others: Of the same schedule from nudged weights; None for one that diverged.
    """
    shares = [
        sum(other is not None and sign_of(other.values[i]) == sign_of(h) for other in others)
        / len(others)
        if math.isfinite(h)
        else None
        for i, h in enumerate(found.values)
    ]
    return found._replace(
        diagnostics=tuple(
            seen._replace(sign_agreement=share)
            for seen, share in zip(found.diagnostics, shares, strict=True)
        )
    )


def doubts(diagnostics: Sequence[HypergradientDiagnostics], schedule: Schedule) -> str | None:
    """Say in a line which signs are not reproducible; None if all are, or nothing was compared.

    Args:
        diagnostics: As `with_sign_agreement` returns them.
        schedule: Whose values they are.
    """
    names = [
        f"{kind}[{index}]"
        for (kind, index, _), seen in zip(schedule.columns(), diagnostics, strict=True)
        if seen.sign_agreement is not None and seen.sign_agreement < 1
    ]
    if not names:
        return None
    return (
        f"{len(names)} of {len(diagnostics)} signs differ between trajectories that differ in "
        f"rounding ({names[0]}{', ...' if len(names) > 1 else ''}): training is near chaos there"
    )
