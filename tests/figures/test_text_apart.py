"""No text of a recorded figure stands on another, and none leaves the picture."""

from importlib import import_module
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from hypergrad.figures import FIGURES, style
from hypergrad.figures.run_data import read_run

pytestmark = pytest.mark.slow
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
DRAWN = [
    (str(path.parent.relative_to(EXPERIMENTS)), path.stem)
    for path in sorted(EXPERIMENTS.rglob("*.png"))
    if path.stem in FIGURES
]
TOUCH = 1.5  # pixels of 200 a inch: boxes of glyphs are a little larger than the glyphs


def boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """What is written, as it is drawn, and where."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    found = []
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        # Labels of ticks outside the limits are there, and are not drawn.
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                tick.label1.set_visible(False)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip():
            found.append((text.get_text(), text.get_window_extent(renderer)))
    return found


def test_texts_that_stand_on_each_other_are_found() -> None:
    figure = Figure(dpi=200)
    figure.text(0.5, 0.5, "one")
    figure.text(0.5, 0.5, "another")
    (one, other) = (box for _, box in boxes(figure))
    assert Bbox.intersection(one, other) is not None


@pytest.mark.parametrize(("record", "name"), DRAWN)
def test_texts_are_apart_and_inside(record: str, name: str) -> None:
    with style.house_style():
        figure, _ = import_module(f"hypergrad.figures.{name}").draw(read_run(EXPERIMENTS / record))
        figure.set_dpi(200)
        found = boxes(figure)
    whole = figure.bbox
    out = [text for text, b in found if b.x0 < 0 or b.y0 < 0 or b.x1 > whole.x1 or b.y1 > whole.y1]
    assert out == []
    pairs = []
    for (text, box), (other, its) in combinations(found, 2):
        common = Bbox.intersection(box, its)
        if common is not None and min(common.width, common.height) > TOUCH:
            pairs.append((text, other))
    assert pairs == []
