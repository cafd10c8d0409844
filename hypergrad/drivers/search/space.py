"""The space of a tuned schedule: three numbers, as a point of the unit cube.

Points are spread evenly over the logarithms of the learning rate, of one less the momentum, and of
the weight decay: what counts in each of them is its ratio to another.
"""

import math
from collections.abc import Mapping, Sequence

from hypergrad.core.rules.sgd import NAMES

__all__ = ["DIMENSIONS", "Bounds", "bounds_of", "values_at"]

DIMENSIONS = len(NAMES)

Bounds = tuple[tuple[float, float], ...]  # of each number, in the order of NAMES


def bounds_of(space: Mapping[str, Sequence[float]]) -> Bounds:
    """Return the bounds of `search.space`, in the order of `NAMES`."""
    return tuple((float(space[name][0]), float(space[name][1])) for name in NAMES)


def values_at(bounds: Bounds, point: Sequence[float]) -> tuple[float, ...]:
    """Return learning rate, momentum and weight decay at a point of the unit cube.

    Args:
        bounds: The lower and the upper one of each.
        point: `(3,)`, each in [0, 1]; 0 is the lower bound and 1 the upper one.

    >>> values_at(((0.01, 1.0), (0.0, 0.99), (1e-4, 1e-2)), (0.5, 0.5, 0.5))
    (0.1, 0.9, 0.001)
    """
    found = []
    for name, (low, high), place in zip(NAMES, bounds, point, strict=True):
        mirrored = name == "momentum"
        begin, end = (1 - low, 1 - high) if mirrored else (low, high)
        value = math.exp((1 - place) * math.log(begin) + place * math.log(end))
        value = 1 - value if mirrored else value
        # Twelve digits: the last bits of exp and log are not the same on all machines.
        found.append(min(max(float(f"{value:.12g}"), low), high))
    return tuple(found)
