"""The outer optimiser: sign descent with step sizes that halve when a sign flips.

    lambda_i <- lambda_i - gamma_i sign(h_i)

`h_i` is the hypergradient of value `i`. `gamma_i` is halved before the move whenever the sign of
`h_i` differs from its last one; a zero or not finite `h_i` moves nothing and is no flip.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["OuterState", "has_converged", "retreat", "sign_descent", "start"]


class OuterState(NamedTuple):
    """Values and step sizes of all hyperparameters, in the order of the columns of Z.

    Attributes:
        values: `lambda`, one a hyperparameter.
        step_sizes: `gamma`, likewise.
        signs: Last sign that moved each value: -1, 1, or 0 before the first move.
    """

    values: tuple[float, ...]
    step_sizes: tuple[float, ...]
    signs: tuple[int, ...]


def start(counts: Sequence[int], step_sizes: Sequence[float]) -> OuterState:
    """Return the state before the first outer step: all values zero.

    Args:
        counts: Values of each kind, (N_alpha, N_beta, N_mu).
        step_sizes: Initial `gamma` of each kind.

    Returns:
        The initial state.
    """
    gammas = tuple(
        gamma for count, gamma in zip(counts, step_sizes, strict=True) for _ in range(count)
    )
    return OuterState((0.0,) * len(gammas), gammas, (0,) * len(gammas))


def sign_descent(state: OuterState, hypergradients: Sequence[float]) -> OuterState:
    """Take one outer step.

    Args:
        state: Values, step sizes and last signs.
        hypergradients: One a value; only signs matter.

    Returns:
        The state after the step.

    >>> sign_descent(OuterState((0.0,), (0.1,), (0,)), [-3.0])
    OuterState(values=(0.1,), step_sizes=(0.1,), signs=(-1,))
    """
    values, step_sizes, signs = [], [], []
    for value, gamma, last, h in zip(*state, hypergradients, strict=True):
        sign = _sign(h)
        if sign * last < 0:
            gamma = gamma / 2
        values.append(value - gamma * sign)
        step_sizes.append(gamma)
        signs.append(sign or last)
    return OuterState(tuple(values), tuple(step_sizes), tuple(signs))


def retreat(state: OuterState) -> OuterState:
    """Undo half of the last move, after an inner run that diverged and so has no hypergradient.

    Args:
        state: The state whose values made training diverge.

    Returns:
        The same signs, half the step sizes, and values half a step back towards the last ones:
        repeated, it approaches the schedule before the move.

    >>> retreat(OuterState((0.4,), (0.2,), (-1,)))
    OuterState(values=(0.30000000000000004,), step_sizes=(0.1,), signs=(-1,))
    """
    halves = tuple(gamma / 2 for gamma in state.step_sizes)
    values = tuple(
        value + gamma * sign
        for value, gamma, sign in zip(state.values, halves, state.signs, strict=True)
    )
    return OuterState(values, halves, state.signs)


def has_converged(state: OuterState, tolerance: float) -> bool:
    """Whether every step size is under `tolerance` times the magnitude of its value.

    Args:
        state: Values and step sizes.
        tolerance: Fraction, for example 0.05.

    Returns:
        True when the next steps can hardly change the schedule.
    """
    return all(
        gamma < tolerance * abs(value)
        for value, gamma in zip(state.values, state.step_sizes, strict=True)
    )


def _sign(h: float) -> int:
    return 0 if h == 0 or not math.isfinite(h) else (1 if h > 0 else -1)
