"""What differences of a scalar function say of a claimed derivative."""

import math
from collections.abc import Callable

import pytest

from hypergrad.drivers.scalar_differences import AGREE, DISAGREE, UNKNOWN, Judgement, judge

X = 0.3


def smooth(x: float) -> float:
    return math.sin(7 * x) + 2.0


SLOPE = 7 * math.cos(7 * X)


def test_the_right_derivative_is_confirmed_by_the_first_pair_of_steps() -> None:
    asked = []

    def counted(x: float) -> float:
        asked.append(x)
        return smooth(x)

    found = judge(counted, X, SLOPE)
    assert found.verdict == AGREE
    assert found.slope == pytest.approx(SLOPE, rel=1e-8)
    assert len(asked) == 4


@pytest.mark.parametrize("factor", [1.0005, 0.995, 1.05, -1.0, 0.0, 100.0])
def test_a_wrong_derivative_is_told(factor: float) -> None:
    found = judge(smooth, X, factor * SLOPE)
    assert found == Judgement(pytest.approx(SLOPE, rel=1e-6), DISAGREE)


def test_a_derivative_that_is_not_finite_is_unknown() -> None:
    assert judge(smooth, X, math.nan)[1:] == (UNKNOWN, "not finite")
    assert judge(lambda x: math.nan, X, 1.0)[1:] == (UNKNOWN, "not finite")


@pytest.mark.parametrize("claimed", [0.7 * SLOPE, 3.0 * SLOPE])
def test_a_jump_at_the_point_is_no_wrong_derivative(claimed: float) -> None:
    """Each pair of steps gives another answer, as a training does whose kinks are everywhere."""
    found = judge(lambda x: smooth(x) + 0.01 * (x > X), X, claimed)
    assert found[1:] == (UNKNOWN, "kinks")


def test_a_jump_nearby_is_passed_by_smaller_steps() -> None:
    assert judge(lambda x: smooth(x) + 0.01 * (x > X * (1 + 1e-5)), X, SLOPE).verdict == AGREE


@pytest.mark.parametrize("size", [1e-2, 1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("phase", range(8))
def test_the_right_derivative_of_a_rough_function_is_not_called_wrong(
    size: float, phase: int
) -> None:
    """Chaos: at the point the slope is large, and over larger steps it averages out."""

    def rough(x: float) -> float:
        return smooth(x) + size * math.sin(1e11 * (x - X) + phase)

    assert judge(rough, X, SLOPE + 1e11 * size * math.cos(phase)).verdict != DISAGREE
    assert judge(rough, X, 1.5 * SLOPE).verdict != AGREE


@pytest.mark.parametrize(
    ("fast", "size", "phase", "slow", "other_size", "other_phase"),
    [
        (33030000.0, 2.438e-08, 5.18, 47060.0, 1.027e-12, 3.1),  # a large step is smooth
        (128100000.0, 2.903e-05, 0.2774, 914.5, 6.543e-10, 1.068),  # a large step is smooth
        (153100000.0, 7.519e-07, 4.274, 127.9, 2.239e-06, 3.808),  # a step is unsure
        (278700000.0, 0.0002583, 1.728, 48260.0, 9.05e-07, 2.538),  # a step is unsure
        (217100000.0, 1.95e-07, 1.972, 246100.0, 3.905e-10, 3.795),  # two steps differ
        (38520000.0, 6.097e-07, 6.267, 456.6, 7.124e-09, 1.807),  # two steps differ
    ],
)
def test_ripples_of_two_lengths_are_not_taken_for_another_slope(
    fast: float, size: float, phase: float, slow: float, other_size: float, other_phase: float
) -> None:
    """Each pair found at random, as one that some condition of the verdict alone saves."""

    def rough(x: float) -> float:
        ripple = size * math.sin(fast * (x - X) + phase)
        return smooth(x) + ripple + other_size * math.sin(slow * (x - X) + other_phase)

    ripples = fast * size * math.cos(phase) + slow * other_size * math.cos(other_phase)
    assert judge(rough, X, SLOPE + ripples).verdict != DISAGREE


def test_what_a_jump_happens_to_say_confirms_nothing() -> None:
    def jumps(x: float) -> float:
        return smooth(x) + 0.01 * (x > X)

    h = 1e-4 * X
    wide, narrow = ((jumps(X + d) - jumps(X - d)) / (2 * d) for d in (h, h / 2))
    assert judge(jumps, X, (4 * narrow - wide) / 3).verdict != AGREE


@pytest.mark.parametrize("claimed", [1e-14, 3e-14, -1e-14])
def test_a_derivative_below_rounding_is_unknown(claimed: float) -> None:
    found = judge(lambda x: 2.0 + 1e-14 * x, X, claimed)
    assert found[1:] == (UNKNOWN, "rounding")


def test_a_value_that_does_nothing_has_the_derivative_zero() -> None:
    assert judge(lambda x: 2.0, X, 0.0).verdict == AGREE


@pytest.mark.parametrize("x", [1e-6, 0.05, 0.5, 0.999, 0.999999])
def test_steps_stay_between_zero_and_one_where_the_value_is(x: float) -> None:
    def within(y: float) -> float:
        assert 0 < y < 1
        return y

    assert judge(within, x, 5.0).verdict == DISAGREE  # all that it tries


@pytest.mark.parametrize("f", [smooth, math.exp], ids=["sine", "exponential"])
def test_beyond_one_and_below_zero(f: Callable[[float], float]) -> None:
    for x in (-2.0, 3.0, 1.0):
        slope = 7 * math.cos(7 * x) if f is smooth else math.exp(x)
        assert judge(f, x, slope).verdict == AGREE
        assert judge(f, x, 1.01 * slope).verdict == DISAGREE
