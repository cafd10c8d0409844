"""The outer optimiser: sign descent with step sizes that halve when a sign flips.

    lambda_i <- lambda_i - gamma_i sign(h_i)

`h_i` is the hypergradient of value `i`. `gamma_i` is halved before the move whenever the sign of
`h_i` differs from its last one; a zero or not finite `h_i` moves nothing and is no flip.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "OuterState",
    "all_lost",
    "backtrack",
    "has_converged",
    "selection_key",
    "sign_descent",
    "sign_of",
    "start",
    "step",
]


class OuterState(NamedTuple):
    """Values and step sizes of all hyperparameters, in the order of the columns of Z.

    Attributes:
        values: `lambda`, one a hyperparameter.
        step_sizes: `gamma`, likewise.
        signs: Last sign that moved each value: -1, 1, or 0 before the first move.
        moves: What the last step added to each value.
    """

    values: tuple[float, ...]
    step_sizes: tuple[float, ...]
    signs: tuple[int, ...]
    moves: tuple[float, ...]


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
    zeros = (0.0,) * len(gammas)
    return OuterState(zeros, gammas, (0,) * len(gammas), zeros)


def sign_descent(state: OuterState, hypergradients: Sequence[float]) -> OuterState:
    """Take one outer step.

    Args:
        state: Values, step sizes and last signs.
        hypergradients: One a value; only signs matter.

    Returns:
        The state after the step.

    >>> sign_descent(OuterState((0.0,), (0.1,), (0,), (0.0,)), [-3.0])
    OuterState(values=(0.1,), step_sizes=(0.1,), signs=(-1,), moves=(0.1,))
    """
    values, step_sizes, signs, moves = [], [], [], []
    for value, gamma, last, h in zip(
        state.values, state.step_sizes, state.signs, hypergradients, strict=True
    ):
        sign = sign_of(h)
        if sign * last < 0:
            gamma = gamma / 2
        values.append(value - gamma * sign)
        step_sizes.append(gamma)
        signs.append(sign or last)
        moves.append(values[-1] - value)
    return OuterState(tuple(values), tuple(step_sizes), tuple(signs), tuple(moves))


def backtrack(state: OuterState) -> OuterState:
    """Take back half of the last move, after an inner run that has no hypergradient.

    The step size of what had moved becomes half of what is left of the move, so that the next
    step the same way does not end at the schedule that diverged. What had not moved stays.

    Args:
        state: The state whose values made training diverge.

    Returns:
        Values half a step back; repeated, they approach those before the move.

    >>> backtrack(OuterState((0.75,), (0.5,), (-1,), (0.5,)))
    OuterState(values=(0.5,), step_sizes=(0.125,), signs=(-1,), moves=(0.25,))
    """
    halves = tuple(move / 2 for move in state.moves)
    values = tuple(value - half for value, half in zip(state.values, halves, strict=True))
    step_sizes = tuple(
        abs(half) / 2 if half else gamma
        for half, gamma in zip(halves, state.step_sizes, strict=True)
    )
    return OuterState(values, step_sizes, state.signs, halves)


def step(state: OuterState, hypergradients: Sequence[float] | None) -> OuterState:
    """End an outer step: sign descent, or half a step back where there is nothing to descend along.

    Args:
        state: The state whose values the inner run used.
        hypergradients: What it found, one a value; None if its weights did not stay finite.

    Returns:
        The state for the next outer step. Where hypergradients were lost and none is left to
        follow, standing still would only repeat the run that lost them.
    """
    if hypergradients is None or all_lost(hypergradients):
        return backtrack(state)
    return sign_descent(state, hypergradients)


def all_lost(hypergradients: Sequence[float]) -> bool:
    """Whether some hypergradients are not finite, and none of the others says where to go."""
    return not all(map(math.isfinite, hypergradients)) and not any(map(sign_of, hypergradients))


def selection_key(accuracy: float, loss: float) -> tuple[float, float]:
    """Return what orders outer steps: validation accuracy; the lower loss decides a draw.

    Args:
        accuracy: On the validation images.
        loss: Likewise; one that is not finite ranks last.

    Returns:
        A key; the greatest is the best.
    """
    return (accuracy, -loss) if math.isfinite(loss) else (-math.inf, -math.inf)


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


def sign_of(h: float) -> int:
    """Return the sign of a hypergradient: 0 if it is zero or not finite."""
    return 0 if h == 0 or not math.isfinite(h) else (1 if h > 0 else -1)
