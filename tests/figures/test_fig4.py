import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from hypergrad.figures import style
from hypergrad.figures.fig4 import draw as draw_fig4
from hypergrad.figures.fig4 import set_scale
from hypergrad.figures.run_data import read_run

MakeRun = Callable[..., Path]


def draw(run: Path) -> tuple[Figure, pd.DataFrame]:
    with style.house_style():
        return draw_fig4(read_run(run))


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_one_line_a_value_named_by_its_window(make_run: MakeRun) -> None:
    run = make_run(epochs=50)
    figure, table = draw(run)
    windows = [f"epochs {k}\N{EN DASH}{k + 10}" for k in range(0, 50, 10)]
    assert labels(figure) == [*windows, "epochs 0\N{EN DASH}50"]
    third = table[(table["kind"] == "learning_rate") & (table["index"] == 2)]
    assert set(third["window"]) == {"epochs 20\N{EN DASH}30"}
    drawn = [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert third["hypergradient"].tolist() in drawn
    logged = pd.read_csv(run / "outer.csv")
    both = table.merge(logged, on=["kind", "index", "outer_step"], suffixes=("", "_logged"))
    assert len(both) == len(table) == len(logged) == 70
    assert both["hypergradient"].tolist() == both["hypergradient_logged"].tolist()
    assert [axes.get_yscale() for axes in figure.axes] == ["symlog"] * 3
    assert "Scales: logarithmic on both sides of zero" in figure.texts[0].get_text()
    assert "hypergradient of" in figure.axes[0].get_ylabel()
    assert [axes.get_xlabel() for axes in figure.axes] == ["outer step"] * 3


def test_outer_step_ticks_are_whole_numbers(make_run: MakeRun) -> None:
    figure, _ = draw(make_run(epochs=2, logged_outer_steps=3))
    for axes in figure.axes:
        ticks = axes.get_xticks()
        assert (ticks == np.round(ticks)).all()


def test_what_is_not_finite_is_crossed_at_zero(make_run: MakeRun) -> None:
    figure, table = draw(make_run(epochs=2, diverged=6))
    assert labels(figure)[-1] == "not finite"
    assert table.loc[~table["finite"], "outer_step"].tolist() == [6] * 7
    for axes, count in zip(figure.axes, (5, 1, 1), strict=True):
        crosses = [line for line in axes.lines if line.get_marker() == "x"]
        points = [line.get_xydata().tolist() for line in crosses]
        assert points == [[[6, 0]]] * count


def test_an_infinite_hypergradient_does_not_reach_the_axis(make_run: MakeRun) -> None:
    run = make_run(epochs=2)
    outer = pd.read_csv(run / "outer.csv")
    outer.loc[outer["outer_step"] == 4, "hypergradient"] = -math.inf
    outer.to_csv(run / "outer.csv", index=False)
    figure, table = draw(run)
    assert np.isneginf(table.loc[~table["finite"], "hypergradient"]).all()
    assert np.isfinite(figure.axes[0].get_ylim()).all()
    assert labels(figure)[-1] == "not finite"


def test_an_unfinished_run_is_marked(make_run: MakeRun) -> None:
    figure, _ = draw(make_run(epochs=2, status="interrupted", fraction=0.3, logged_outer_steps=2))
    mark = figure.legends[0].get_title().get_text()
    assert mark == "UNFINISHED RUN (interrupted, 30 %)"


def test_several_seeds_show_the_first_and_say_so(make_run: MakeRun) -> None:
    figure, table = draw(make_run(epochs=2, seeds=3))
    assert set(table["seed"]) == {0}
    assert figure.texts[0].get_text().split(". ")[1] == "Lines: seed 0 of the 3 seeds 0–2"


@pytest.mark.parametrize(
    ("values", "edge"),
    [
        ([-1.0, -0.5, 0.2, 0.1], 1.0),
        ([0.0, 0.0], 1.0),
        ([], 1.0),
        ([-2e-4, 1e-4], 1e-4),
        ([2e-3, 1.5e-3, 1.2e-3], 1e-3),  # not 0.01, which would be all of the panel
        ([-1000.0, 1.0, 2.0, -0.5, 0.0], 1.0),
        ([1e30, 1.0, 2.0], 1e26),
    ],
)
def test_one_scale_whatever_the_range(values: list[float], edge: float) -> None:
    axes = Figure().add_subplot()
    set_scale(axes, np.array(values))
    assert axes.get_yscale() == "symlog"
    transform = axes.yaxis.get_transform()
    assert transform.linthresh == pytest.approx(edge)  # type: ignore[attr-defined]
    low, high = axes.get_ylim()
    assert all(low < value < high for value in values)
    assert 0 in axes.get_yticks()
    assert len(axes.get_yticks()) <= 8


def test_many_windows_get_a_sequence_and_a_short_legend(make_run: MakeRun) -> None:
    run = make_run(epochs=2)
    header = (run / "outer.csv").read_text().splitlines()[0]
    rows = [
        f"0,{step},{kind},{i},{2 * i / 40},{2 * (i + 1) / 40},0.1,{i - 20.0},0.1,1,9"
        for step in range(3)
        for kind in ("learning_rate", "momentum", "weight_decay")
        for i in range(40)
    ]
    (run / "outer.csv").write_text("\n".join([header, *rows]) + "\n")
    figure, table = draw(run)
    assert len(table) == 360
    assert len(labels(figure)) == 7
    assert len({line.get_color() for line in figure.axes[0].lines}) >= 40
