import numpy as np
import pytest
from matplotlib.figure import Figure

from hypergrad.figures.outside import draw_inside, stretches


@pytest.mark.parametrize(
    ("heights", "parts"),
    [
        ([0, 0.5, 0], [([0, 1, 2], None)]),
        ([0, 2, 0], [([0, 0.5], True), ([1.5, 2], None)]),
        ([0, -2, -2, 0], [([0, 0.5], False), ([2.5, 3], None)]),
        ([2, -2], [([0.25, 0.75], False)]),
        ([2, 3, 2], []),
        ([2, 2, 0], [([1.5, 2], None)]),
        ([0, np.nan, 0, 0], [([2, 3], None)]),
        ([0, 0, np.inf, 0, 0], [([0, 1], None), ([3, 4], None)]),
        ([1, 1, -1], [([0, 1, 2], None)]),  # on the edge is inside
        ([0], []),
        ([], []),
    ],
)
def test_a_line_is_cut_where_it_crosses_the_limits(
    heights: list[float], parts: list[tuple[list[float], bool | None]]
) -> None:
    found = stretches(np.arange(len(heights), dtype=float), np.array(heights, dtype=float), (-1, 1))
    assert [(part.x.tolist(), part.leaves) for part in found] == parts
    for part in found:
        assert np.abs(part.y).max() <= 1


def test_a_line_that_swings_across_the_panel_is_no_row_of_dashes() -> None:
    axes = Figure().add_subplot()
    axes.set_xlim(0, 100)
    axes.set_ylim(-1, 1)
    x = np.arange(101.0)
    y = np.where(x % 2 == 0, 9.0, -9.0)
    y[0], y[60:] = 0.0, 0.5
    left_out = draw_inside(axes, x, y, color="#D55E00")
    lines = [line for line in axes.lines if line.get_marker() == "None"]
    arrows = [(line.get_marker(), line.get_ydata()[0]) for line in axes.lines if line not in lines]
    # The first three, and the long last one; an arrow where each of them leaves.
    assert len(lines) == 4
    assert left_out == len(stretches(x, y, (-1, 1))) - 4 > 50
    assert arrows == [("v", -1.0) if y[1] < 0 else ("^", 1.0), ("^", 1.0), ("v", -1.0)]
    assert lines[-1].get_xdata()[-1] == 100
