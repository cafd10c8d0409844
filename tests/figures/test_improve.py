from pathlib import Path

from hypergrad.figures import style
from hypergrad.figures.improve import draw
from hypergrad.figures.run_data import read_run

RECORD = Path(__file__).parents[2] / "experiments" / "quickstart" / "record"


def test_schedules_stay_inside_their_panels_and_the_caption_says_what_is_what() -> None:
    with style.house_style():
        figure, table = draw(read_run(RECORD))
    for axes, name in zip(figure.axes, ("learning_rate", "momentum", "weight_decay"), strict=False):
        values = table[table["panel"] == name]["value"]
        low, high = axes.get_ylim()
        assert low < 0 < values.max() < high
        assert axes.get_xlim() == (0, 10)
        assert axes.get_xticks()[-1] == 10
    assert figure.axes[2].get_ylabel() == r"weight decay μ ($\times 10^{-3}$)"
    caption = figure.texts[0].get_text().replace("\n", " ")
    for words in ("Seed 0.", "Base: the schedule that it began with", "Bars: fresh trainings"):
        assert words in caption
