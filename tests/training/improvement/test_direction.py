"""Directions by hand: what stands out from the scatter, and what the memory weighs."""

import math
import statistics

import pytest

from hypergrad.training.improvement.direction import gated, random_signs
from hypergrad.training.improvement.interval import interval


def test_what_stands_out_moves_against_its_sign() -> None:
    H = [(1.0, 1.0, -3.0, 0.0), (1.1, -1.0, -3.0, 0.0), (0.9, 0.5, -3.0, 0.0)]
    # t of the first: 1 / (0.1 / sqrt 3) = 17; the second: 0.17 / 0.6; the third has no scatter.
    assert gated(H, [1.0] * 3, (1.0, 2.5)) == (-1.0, 0.0, 1.0, 0.0)


def test_between_the_gates_it_moves_in_part() -> None:
    values = [1.0, 2.0, 0.2]
    t = statistics.mean(values) / (statistics.stdev(values) / math.sqrt(3))
    (found,) = gated([(v,) for v in values], [1.0] * 3, (1.0, 2.5))
    assert found == pytest.approx(-(t - 1.0) / 1.5)
    assert -1 < found < 0


def test_memory_counts_what_it_weighs() -> None:
    """Two of weight one and two of none are two."""
    H = [(1.0,), (2.0,), (-50.0,), (40.0,)]
    assert gated(H, [1, 1, 0, 0], (1.0, 4.0)) == gated(H[:2], [1, 1], (1.0, 4.0))


def test_one_trajectory_shows_no_direction() -> None:
    assert gated([(5.0, 1.0)], [1.0], (1.0, 2.5)) == (0.0, 0.0)


def test_random_signs_are_a_function_of_their_key() -> None:
    assert random_signs(64, 0, "direction", 1) == random_signs(64, 0, "direction", 1)
    assert random_signs(64, 0, "direction", 1) != random_signs(64, 0, "direction", 2)
    assert set(random_signs(64, 0, "direction", 1)) == {-1.0, 1.0}


def test_intervals() -> None:
    assert interval([1.0, 2.0, 3.0]).half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert math.isnan(interval([1.0]).half)
    assert math.isnan(interval([1.0, math.nan]).mean)
