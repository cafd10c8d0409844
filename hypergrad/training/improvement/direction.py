"""The direction of a move: what stands out from the scatter of fresh trajectories.

    d = -sign(m) clamp((|t| - low) / (high - low), 0, 1)

`m` is the weighted mean over trajectories, `t` its t statistic: see `t_statistics`.
"""

from collections.abc import Sequence

import torch

from hypergrad.core.seeding import generator
from hypergrad.training.trajectories import t_statistics

__all__ = ["gated", "random_signs"]


def gated(
    hypergradients: Sequence[Sequence[float]],
    weights: Sequence[float],
    gate: tuple[float, float],
) -> tuple[float, ...]:
    """Return the direction of descent, every coordinate in [-1, 1].

    Args:
        hypergradients: Of each trajectory, by the coordinates.
        weights: Of each trajectory.
        gate: `low` and `high`.

    Returns:
        Zeros where one trajectory is all there is.
    """
    H = torch.tensor(hypergradients, dtype=torch.float64)
    w = torch.tensor(weights, dtype=torch.float64)[:, None]
    n = float(w.sum() ** 2 / (w * w).sum())
    if n <= 1:
        return (0.0,) * H.shape[1]
    m, t = t_statistics(H, w)
    low, high = gate
    return tuple((-m.sign() * ((t.abs() - low) / (high - low)).clamp(0, 1)).tolist())


def random_signs(size: int, *key: int | str) -> tuple[float, ...]:
    """Return a direction of random signs, a pure function of a key."""
    drawn = torch.randint(2, (size,), generator=generator(*key))
    return tuple((2.0 * drawn - 1).tolist())
