"""The outer optimiser: sign descent with step sizes that halve when a sign flips.

    lambda_i <- lambda_i - gamma_i sign(h_i)

on the scale of its hyperparameter, within its bounds. `h_i` is the hypergradient of value `i`.
`gamma_i` is halved before the move whenever the sign of `h_i` differs from its last one; a zero or
not finite `h_i` moves nothing and is no flip.

With many values most of a single outer step's signs are noise, and each moves as far as a sure one.
For them there is a step along averages over the outer steps (ours; the form is that of Kingma and
Ba, 2015, <https://arxiv.org/abs/1412.6980>), in which what agrees from step to step moves farther:

    m_i <- 0.7 m_i + 0.3 h_i / |h|       s_i <- 0.9 s_i + 0.1 (h_i / |h|)^2
    lambda_i <- lambda_i - gamma_i (m_i / (1 - 0.7^k)) / (sqrt(s_i / (1 - 0.9^k)) + 1e-3)

after `k` steps, with `|h|` the norm over the values of the same hyperparameter; `gamma_i` stays.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from hypergrad.core.hyperparameters import Hyperparameter

__all__ = [
    "OuterState",
    "DESCENTS",
    "all_lost",
    "averaged_descent",
    "backtrack",
    "has_converged",
    "selection_key",
    "sign_descent",
    "sign_of",
    "start",
    "step",
]


UNBOUNDED = Hyperparameter("value")
SELECTIONS = ("accuracy", "loss")
DESCENTS = ("signs", "averaged")
MEAN_KEEPS, SQUARE_KEEPS, LEAST = 0.7, 0.9, 1e-3


class OuterState(NamedTuple):
    """Values and step sizes of all coefficients, in the order of the columns of Z.

    Attributes:
        values: `lambda`, one a coefficient.
        step_sizes: `gamma`, likewise, on the scale of each.
        signs: Last sign that moved each value: -1, 1, or 0 before the first move.
        moves: By how much the last step moved each value, on its scale.
        means: Running averages of the hypergradients, and `squares` of their squares, relative to
            their norm; empty before the first step along them.
        averaged: Steps behind both.
    """

    values: tuple[float, ...]
    step_sizes: tuple[float, ...]
    signs: tuple[int, ...]
    moves: tuple[float, ...]
    means: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    averaged: int = 0


Columns = Sequence[Hyperparameter]


def start(hyperparameters: Sequence[Hyperparameter]) -> tuple[OuterState, Columns]:
    """Return the state before the first outer step, and whose each of its entries is.

    Args:
        hyperparameters: All that are learned.

    Returns:
        The initial state, and one hyperparameter a coefficient.
    """
    columns = [each for each in hyperparameters for _ in each.coefficients]
    values = tuple(value for each in hyperparameters for value in each.coefficients)
    gammas = tuple(each.first_move for each in columns)
    return OuterState(values, gammas, (0,) * len(values), (0.0,) * len(values)), columns


def sign_descent(
    state: OuterState, hypergradients: Sequence[float], columns: Columns = ()
) -> OuterState:
    """Take one outer step.

    Args:
        state: Values, step sizes and last signs.
        hypergradients: One a value; only signs matter.
        columns: Whose each value is; linear and unbounded unless given.

    Returns:
        The state after the step.

    >>> sign_descent(OuterState((0.0,), (0.1,), (0,), (0.0,)), [-3.0])[:4]
    ((0.1,), (0.1,), (-1,), (0.1,))
    """
    values, step_sizes, signs, moves = [], [], [], []
    for value, gamma, last, h, whose in zip(
        state.values,
        state.step_sizes,
        state.signs,
        hypergradients,
        _whose(state, columns),
        strict=True,
    ):
        sign = sign_of(h)
        if sign * last < 0:
            gamma = gamma / 2
        values.append(whose.moved(value, -gamma * sign))
        step_sizes.append(gamma)
        signs.append(sign or last)
        moves.append(whose.distance(value, values[-1]))
    return state._replace(
        values=tuple(values),
        step_sizes=tuple(step_sizes),
        signs=tuple(signs),
        moves=tuple(moves),
    )


def averaged_descent(
    state: OuterState, hypergradients: Sequence[float], columns: Columns = ()
) -> OuterState:
    """Take one outer step along averages of the hypergradients over the outer steps.

    Args:
        state: Values, step sizes, which stay as they are, and averages.
        hypergradients: One a value; one that is not finite leaves its value and averages alone.
        columns: As for `sign_descent`.

    Returns:
        The state after the step.
    """
    own, taken = _whose(state, columns), state.averaged + 1
    none = (0.0,) * len(state.values)
    values, signs, moves, means, squares = [], [], [], [], []
    for value, gamma, last, h, mean, square, whose in zip(
        state.values,
        state.step_sizes,
        state.signs,
        _relative(hypergradients, own),
        state.means or none,
        state.squares or none,
        own,
        strict=True,
    ):
        move = 0.0
        if math.isfinite(h):
            mean = MEAN_KEEPS * mean + (1 - MEAN_KEEPS) * h
            square = SQUARE_KEEPS * square + (1 - SQUARE_KEEPS) * h * h
            along = mean / (1 - MEAN_KEEPS**taken)
            move = -gamma * along / (math.sqrt(square / (1 - SQUARE_KEEPS**taken)) + LEAST)
        values.append(whose.moved(value, move))
        signs.append(sign_of(h) or last)
        moves.append(whose.distance(value, values[-1]))
        means.append(mean)
        squares.append(square)
    return OuterState(
        *(tuple(values), state.step_sizes, tuple(signs), tuple(moves)),
        *(tuple(means), tuple(squares), taken),
    )


def backtrack(state: OuterState, columns: Columns = ()) -> OuterState:
    """Take back half of the last move, after an inner run that has no hypergradient.

    The step size of what had moved becomes half of what is left of the move, so that the next
    step the same way does not end at the schedule that diverged. What had not moved stays.

    Args:
        state: The state whose values made training diverge.
        columns: As for `sign_descent`.

    Returns:
        Values half a step back; repeated, they approach those before the move.

    >>> backtrack(OuterState((0.75,), (0.5,), (-1,), (0.5,)))[:4]
    ((0.5,), (0.125,), (-1,), (0.25,))
    """
    halves = tuple(move / 2 for move in state.moves)
    values = tuple(
        whose.moved(value, -half)
        for value, half, whose in zip(state.values, halves, _whose(state, columns), strict=True)
    )
    step_sizes = tuple(
        abs(half) / 2 if half else gamma
        for half, gamma in zip(halves, state.step_sizes, strict=True)
    )
    return state._replace(values=values, step_sizes=step_sizes, moves=halves)


def step(
    state: OuterState,
    hypergradients: Sequence[float] | None,
    columns: Columns = (),
    still: Sequence[bool] = (),
    descent: str = "signs",
) -> OuterState:
    """End an outer step: a descent, or half a step back where there is nothing to descend along.

    Args:
        state: The state whose values the inner run used.
        hypergradients: What it found, one a value; None if its weights did not stay finite.
        columns: As for `sign_descent`.
        still: Which values stay, whatever the signs; none unless given.
        descent: One of `DESCENTS`.

    Returns:
        The state for the next outer step. Where hypergradients were lost and none is left to
        follow, standing still would only repeat the run that lost them.
    """
    if hypergradients is None or all_lost(hypergradients):
        return backtrack(state, columns)
    if still:
        hypergradients = [
            0.0 if stays else h for h, stays in zip(hypergradients, still, strict=True)
        ]
    move = averaged_descent if descent == "averaged" else sign_descent
    return move(state, hypergradients, columns)


def all_lost(hypergradients: Sequence[float]) -> bool:
    """Whether some hypergradients are not finite, and none of the others says where to go."""
    return not all(map(math.isfinite, hypergradients)) and not any(map(sign_of, hypergradients))


def selection_key(accuracy: float, loss: float, by: str = "accuracy") -> tuple[float, float]:
    """Return what orders outer steps: validation accuracy; the lower loss decides a draw.

    Args:
        accuracy: On the validation data, or another metric; NaN where there is none: then the loss
            alone decides.
        loss: Likewise; one that is not finite ranks last.
        by: `accuracy`; or `loss`, and accuracy decides a draw.

    Returns:
        A key; the greatest is the best.

    Raises:
        ValueError: For another word.
    """
    if by not in SELECTIONS:
        raise ValueError(f"select by {by!r}: use one of {', '.join(SELECTIONS)}")
    if not math.isfinite(loss):
        return -math.inf, -math.inf
    accuracy = 0.0 if math.isnan(accuracy) else accuracy
    return (accuracy, -loss) if by == "accuracy" else (-loss, accuracy)


def has_converged(state: OuterState, tolerance: float, columns: Columns = ()) -> bool:
    """Whether every step size is under `tolerance` times the magnitude of its value.

    On a `log` or `logit` scale a step size is relative already.

    Args:
        state: Values and step sizes.
        tolerance: Fraction, for example 0.05.
        columns: As for `sign_descent`.

    Returns:
        True when the next steps can hardly change the schedule.
    """
    return all(
        gamma < tolerance * (abs(value) if whose.scale == "linear" else 1.0)
        for value, gamma, whose in zip(
            state.values, state.step_sizes, _whose(state, columns), strict=True
        )
    )


def sign_of(h: float) -> int:
    """Return the sign of a hypergradient: 0 if it is zero or not finite."""
    return 0 if h == 0 or not math.isfinite(h) else (1 if h > 0 else -1)


def _whose(state: OuterState, columns: Columns) -> Columns:
    return columns or (UNBOUNDED,) * len(state.values)


def _relative(hypergradients: Sequence[float], columns: Columns) -> list[float]:
    """Hypergradients as shares of the norm over those of the same hyperparameter."""
    squares: dict[str, float] = {}
    for h, whose in zip(hypergradients, columns, strict=True):
        own = h * h if math.isfinite(h) else 0.0
        squares[whose.name] = squares.get(whose.name, 0.0) + own
    norms = {name: math.sqrt(square) or 1.0 for name, square in squares.items()}
    return [h / norms[whose.name] for h, whose in zip(hypergradients, columns, strict=True)]
