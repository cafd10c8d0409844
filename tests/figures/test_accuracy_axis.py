import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from hypergrad.figures.accuracy_axis import (
    LOG_NOTE,
    AccuracyAxis,
    accuracy_ticks,
    apply_axis,
    choose_axis,
    height,
    value_at,
)


@pytest.mark.parametrize(
    ("best", "drawn", "ends", "log"),
    [
        (0.984, [0.1, 0.5, 0.97, 0.984], (0.0, 0.988), True),
        (0.98, [0.85, 0.98], (0.832, 0.983), True),  # nothing of it is near chance
        (0.79, [0.1, 0.79], (0.0, 0.837), False),
        (0.6, [0.1, 0.6, math.nan], (0.0, 0.636), False),
        (0.12, [0.08, 0.12], (0.0, 0.5), False),
        (1.0, [1.0, 0.1], (0.0, 1.0), True),
        (1.0, [1.0], (0.9889, 1.0), True),
        (0.9, [-0.2, 1.3], (0.0, 1.0), True),  # error bars end where accuracies do
        (math.nan, [math.nan], (0.0, 1.0), False),
        (0.0, [0.0], (0.0, 1.0), False),
        (math.nan, [], (0.0, 1.0), False),
    ],
)
def test_all_that_is_drawn_has_a_place(
    best: float, drawn: list[float], ends: tuple[float, float], log: bool
) -> None:
    axis = choose_axis(best, np.array(drawn, dtype=float))
    assert axis[:2] == pytest.approx(ends, abs=1e-3)
    assert axis.log == log
    assert 0 <= axis.low < axis.high <= 1


@pytest.mark.parametrize(
    "axis",
    [AccuracyAxis(0.0, 0.99, True), AccuracyAxis(0.8, 1.0, True), AccuracyAxis(0, 0.4, False)],
)
def test_the_scale_is_smooth_increasing_and_inverts(axis: AccuracyAxis) -> None:
    values = np.linspace(-0.1, 1.1, 500)
    heights = height(axis, values)
    assert (np.diff(heights) > 0).all()
    # Rounding, magnified by slopes up to 1 / 0.002.
    np.testing.assert_allclose(value_at(axis, heights), values, atol=1e-12)
    np.testing.assert_allclose(height(axis, np.array(axis[:2])), [0, 1], atol=1e-12)
    # Below one there is no fold: slopes of neighbours are alike.
    slopes = np.diff(height(axis, np.linspace(0.0, 0.98, 500)))
    assert (slopes[1:] / slopes[:-1]).max() < 1.12


def test_as_many_errors_are_as_high_wherever_they_are() -> None:
    """Halving the error is as good a step at 10 % as at 2 %."""
    low, middle, high = height(AccuracyAxis(0.0, 0.99, True), np.array([0.8, 0.9, 0.95]))
    assert (high - middle) == pytest.approx(middle - low, rel=0.05)


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (AccuracyAxis(0.0, 0.988, True), [0.0, 0.5, 0.8, 0.9, 0.95, 0.98]),
        (AccuracyAxis(0.0, 1.0, True), [0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999]),
        (AccuracyAxis(0.76, 0.983, True), [0.8, 0.9, 0.95, 0.98]),
        (AccuracyAxis(0.93, 0.96, True), [0.93, 0.94, 0.95, 0.96]),
        (AccuracyAxis(0.0, 0.52, False), [0.0, 0.2, 0.4]),
        (AccuracyAxis(0.0, 1.0, False), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_ticks_are_round_and_apart(axis: AccuracyAxis, ticks: list[float]) -> None:
    assert accuracy_ticks(axis) == ticks
    assert np.diff(height(axis, np.array(ticks))).min() >= 0.075


def test_an_axis_says_what_it_is() -> None:
    axes = Figure().add_subplot()
    assert apply_axis(axes, AccuracyAxis(0.0, 0.98, True)) == LOG_NOTE
    assert axes.get_yscale() == "function"
    assert [text.get_text() for text in axes.get_yticklabels()][:2] == ["0", "50"]
    axes = Figure().add_subplot()
    assert apply_axis(axes, AccuracyAxis(0.0, 0.5, False)) == ""
    assert axes.get_yscale() == "linear"
