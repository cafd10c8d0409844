"""The ladder: scales of the base's rates from below, judged together with the next larger one.

What is chosen has room above it: the derivative at a point cannot see the cliff beyond it.
"""

import statistics
from typing import NamedTuple

from hypergrad.core.move_space import Candidate
from hypergrad.training.improvement.options import ImproveOptions
from hypergrad.training.improvement.trainings import Asking, Key, Training, capped

__all__ = ["Rung", "climb"]

BLOWN_UP = 1.5  # times the least loss
FURTHER = 8  # scales above those given, while the highest is the best


class Rung(NamedTuple):
    """A scale, and the mean of its losses."""

    scale: float
    loss: float


def climb(
    base: Candidate, options: ImproveOptions, cap: float
) -> Asking[tuple[Candidate, list[Rung]]]:
    """Ask for the ladder's trainings; return the candidate of the best scale, and the rungs.

    Args:
        base: The base schedule.
        options: Scales, and trainings of each.
        cap: What dead trainings count as.
    """
    scales, rungs = list(options.scales), []
    while len(rungs) < len(scales):
        scale = scales[len(rungs)]
        at = base._replace(factor=base.factor * scale)
        outcomes = yield tuple(
            Training(Key("ladder", number), at, name=f"x{scale:g}")
            for number in range(options.rung)
        )
        loss = statistics.mean(capped(each.loss, cap) for each in outcomes)
        rungs.append(Rung(scale, loss))
        least = min(rung.loss for rung in rungs)
        if len(rungs) > 2 and loss > BLOWN_UP * least:
            break
        if len(rungs) == len(scales) < len(options.scales) + FURTHER and loss == least:
            scales.append(scale * scales[-1] / scales[-2])  # the base is far too low
    losses = [rung.loss for rung in rungs]
    losses += losses[-1:] * (len(scales) - len(losses))
    together = [(here + above) / 2 for here, above in zip(losses, losses[1:], strict=False)]
    best = min(range(len(together)), key=together.__getitem__)
    return base._replace(factor=base.factor * scales[best]), rungs
