import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from hypergrad.figures import style
from hypergrad.figures.fig1 import draw as draw_fig1
from hypergrad.figures.fig1_data import MAX_POINTS, figure_1_data
from hypergrad.figures.run_data import floats, read_run, where

MakeRun = Callable[..., Path]
KINDS = ("learning_rate", "momentum", "weight_decay")


def texts(figure: Figure) -> list[str]:
    words = [text.get_text() for text in figure.texts]
    for legend in figure.legends:
        words += [text.get_text() for text in (legend.get_title(), *legend.get_texts())]
    return words


def draw(run: Path) -> tuple[Figure, pd.DataFrame]:
    with style.house_style():
        return draw_fig1(read_run(run))


def test_schedules_are_step_functions_of_what_was_logged(make_run: MakeRun) -> None:
    record = read_run(make_run())
    lines = [line for line in figure_1_data(record).lines if line.method == "ours"]
    for line in lines:
        if line.panel not in KINDS:
            continue
        rows = where(record.outer, kind=line.panel, outer_step=line.outer_step)
        assert line.value[::2].tolist() == line.value[1::2].tolist() == rows["value"].tolist()
        assert line.epoch[::2].tolist() == rows["start_epoch"].tolist()
        assert line.epoch[1::2].tolist() == rows["end_epoch"].tolist()
        # Outer step 0 is drawn over its own, shorter horizon.
        assert line.epoch[-1] == (1 if line.outer_step == 0 else 50)
    assert {line.outer_step for line in lines if line.best} == {8}


def test_accuracies_are_what_was_logged(make_run: MakeRun) -> None:
    record = read_run(make_run(epochs=2, rows_per_epoch=8, seeds=3, first_epochs=2))
    data = figure_1_data(record)
    drawn = {x.outer_step: x for x in data.lines if x.panel == "test_accuracy"}
    assert sorted(step for step in drawn if step is not None) == list(range(10))
    ours = where(record.inner, seed=0, method="ours", outer_step=7)
    assert drawn[7].value.tolist() == ours["test_accuracy"].tolist()
    assert drawn[7].epoch.tolist() == [k / 8 for k in range(1, 17)]
    hd = where(record.inner, seed=0, method="hd")
    assert drawn[None].value.tolist() == hd["test_accuracy"].tolist()


def test_retrained_results_are_means_over_seeds(make_run: MakeRun) -> None:
    data = figure_1_data(read_run(make_run(epochs=2, seeds=3, ceiling=0.9)))
    ours = data.finals[0]
    assert [final.method for final in data.finals] == ["ours_retrained", "hd_retrained", "sgd"]
    assert ours.mean == pytest.approx(0.902, abs=1e-12)
    assert ours.std == pytest.approx(0.002, abs=1e-12)  # of 0.900, 0.902, 0.904
    assert (ours.epoch, ours.seeds, ours.diverged) == (2.0, 3, 0)


def test_the_table_holds_every_point_of_every_line(make_run: MakeRun) -> None:
    data = figure_1_data(read_run(make_run(epochs=2)))
    table = data.table()
    assert len(table) == sum(line.epoch.size for line in data.lines) + 3
    assert table["value"].tolist()[: data.lines[0].value.size] == data.lines[0].value.tolist()
    assert table["outer_step"].isna().sum() == (table["method"] != "ours").sum()


def test_hypergradient_descent_is_thinned_by_means(make_run: MakeRun) -> None:
    record = read_run(make_run())
    data = figure_1_data(record)
    line = next(x for x in data.lines if x.method == "hd" and x.panel == "momentum")
    logged = floats(record.hd, "momentum")
    assert data.steps_per_point == math.ceil(logged.size / MAX_POINTS) == 19
    assert line.value.size == math.ceil(logged.size / 19) <= MAX_POINTS
    assert line.value[3] == pytest.approx(logged[57:76].mean(), rel=1e-12)
    short = figure_1_data(read_run(make_run("short", epochs=2, steps_per_epoch=20)))
    assert short.steps_per_point == 1


def test_a_line_drawn_is_the_line_in_the_table(make_run: MakeRun) -> None:
    figure, table = draw(make_run(epochs=2))
    rows = table[(table["panel"] == "learning_rate") & (table["outer_step"] == 9)]
    drawn = [line.get_xydata().tolist() for line in figure.axes[0].lines]
    assert rows[["epoch", "value"]].to_numpy().tolist() in drawn


def test_limits_come_from_our_values_and_the_note_says_that_hd_leaves(make_run: MakeRun) -> None:
    figure, table = draw(make_run(hd="wild"))
    for axes, kind in zip(figure.axes[:3], KINDS, strict=True):
        panel = table[table["panel"] == kind]
        ours = panel[panel["method"] == "ours"]["value"]
        low, high = axes.get_ylim()
        assert low < ours.min() <= ours.max() < high
        assert high - low == pytest.approx(1.14 * (ours.max() - ours.min()))
    highest = table[(table["panel"] == "learning_rate") & (table["method"] == "hd")]["value"].max()
    assert highest > 5
    assert figure.axes[0].get_title(loc="right") == f"HD leaves the panel (max {highest:.2g})"


def test_hd_ends_in_an_arrow_where_it_leaves_a_panel(make_run: MakeRun) -> None:
    figure, table = draw(make_run(hd="wild"))
    axes = figure.axes[0]
    arrows = [line for line in axes.lines if line.get_marker() == "^"]
    assert [line.get_ydata()[0] for line in arrows] == [axes.get_ylim()[1]] * len(arrows)
    assert 1 <= len(arrows) <= 4
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert 1 <= len(dashed) <= 4
    for line in dashed:
        assert line.get_ydata().max() <= axes.get_ylim()[1]
    # The data are all there.
    assert len(table[(table["panel"] == "learning_rate") & (table["method"] == "hd")]) > 100
    tame, _ = draw(make_run("tame", epochs=2))
    assert not [
        line for axes in tame.axes[:3] for line in axes.lines if line.get_marker() in ("^", "v")
    ]


def test_no_note_while_hd_stays_inside(make_run: MakeRun) -> None:
    figure, _ = draw(make_run(epochs=2))
    assert [axes.get_title(loc="right") for axes in figure.axes[:3]] == ["", "", ""]


def test_hd_that_is_lost_is_said_to_be(make_run: MakeRun) -> None:
    figure, table = draw(make_run(hd="lost"))
    assert figure.axes[1].get_title(loc="right").endswith(", then not finite)")
    hd = table[(table["panel"] == "momentum") & (table["method"] == "hd")]
    assert hd["value"].isna().sum() == hd["diverged"].sum() > 200


def test_the_caption_and_the_legend(make_run: MakeRun) -> None:
    run = make_run(data="mnist", model="lenet", scale="cpu", epochs=2, seeds=3, ceiling=0.985)
    words = texts(draw(run)[0])
    assert "UNFINISHED" not in " ".join(words)
    caption = words[0].replace("\n", " ")
    assert caption.startswith(
        "fig1: data mnist, model lenet, 2 epochs, 10 outer steps, scale cpu. "
        "Lines: seed 0 of the 3 seeds 0–2; markers: mean ± standard deviation. "
    )
    assert "best outer step (8) by validation" in words
    assert "ours, retrained 98.70 ± 0.20 %" in words
    assert "loss not finite" not in words


def test_an_unfinished_run_is_marked_in_the_picture(make_run: MakeRun) -> None:
    run = make_run(status="running", fraction=0.43, logged_outer_steps=4, hd="none")
    figure, table = draw(run)
    assert "UNFINISHED RUN (running, 43 %)" in texts(figure)
    assert set(table["method"]) == {"ours"}
    # The colours are those that the finished run will have.
    assert len(figure.axes[4].get_yticks()) == 10


def test_a_single_point_is_drawn_as_one(make_run: MakeRun) -> None:
    figure, _ = draw(make_run(status="running", logged_outer_steps=1, hd="none"))
    assert figure.axes[3].lines[0].get_marker() == "o"
    assert figure.axes[3].get_ylim() == (0, 0.5)


def test_a_diverged_outer_step_is_crossed_where_it_was_lost(make_run: MakeRun) -> None:
    figure, _ = draw(make_run(diverged=6))
    assert "loss not finite" in texts(figure)
    crosses = [line for line in figure.axes[3].lines if line.get_marker() == "x"]
    points = [line.get_xydata().tolist() for line in crosses if len(line.get_xydata())]
    assert points == [[[3.0, 0.1]]]


def test_a_diverged_retraining_is_counted(make_run: MakeRun) -> None:
    run = make_run(epochs=2, seeds=3)
    summary = json.loads((run / "summary.json").read_text())
    summary["results"][1].update(test_accuracy=None, diverged=True)  # seed 0, HD
    (run / "summary.json").write_text(json.dumps(summary))
    label = next(text for text in texts(draw(run)[0]) if text.startswith("HD, retrained"))
    assert label.endswith("% (1 of 3 diverged)")


def test_error_bars_end_where_accuracies_do(make_run: MakeRun) -> None:
    run = make_run(epochs=2, rows_per_epoch=2, seeds=2)
    summary = json.loads((run / "summary.json").read_text())
    for result in summary["results"]:
        if result["method"] == "hd_retrained":
            result["test_accuracy"] = 0.1 + 0.89 * (result["seed"] > 0)  # 54.5 ± 62.9 %
    (run / "summary.json").write_text(json.dumps(summary))
    (axes,) = (axes for axes in draw(run)[0].axes if axes.get_ylabel() == "test accuracy (%)")
    ends = [bar.get_segments()[0][:, 1] for each in axes.containers for bar in each[2]]
    assert min(end.min() for end in ends) == pytest.approx(0)
    assert max(end.max() for end in ends) == pytest.approx(1)
    assert axes.get_ylim()[1] < 1  # it is no matter of ours


def test_nothing_of_ours_is_cut_off_above(make_run: MakeRun) -> None:
    figure, table = draw(make_run(epochs=2, rows_per_epoch=8, seeds=3))
    drawn = table[(table["panel"] == "test_accuracy") & (table["method"] != "hd")]
    assert drawn["value"].max() < figure.axes[3].get_ylim()[1] <= 1


def test_a_kind_that_is_not_learned_has_a_panel_that_says_so(make_run: MakeRun) -> None:
    run = make_run(outer_steps=3, logged_outer_steps=3, best=1)
    table = (run / "outer.csv").read_text().splitlines(keepends=True)
    (run / "outer.csv").write_text("".join(row for row in table if "momentum" not in row))
    inner = pd.read_csv(run / "inner.csv")
    inner.assign(momentum=0.0).to_csv(run / "inner.csv", index=False)
    figure, data = draw_fig1(read_run(run))
    assert figure.axes[1].get_title(loc="right") == "zero: not learned"
    assert data[(data["panel"] == "momentum") & (data["method"] == "ours")].empty
    assert not [line for line in figure.axes[1].lines if line.get_color() == style.GREY]
    # One that was held at another value than the optimiser's default.
    inner.assign(momentum=0.9).to_csv(run / "inner.csv", index=False)
    figure, _ = draw_fig1(read_run(run))
    assert figure.axes[1].get_title(loc="right") == "0.9: not learned"
    (line,) = (line for line in figure.axes[1].lines if line.get_color() == style.GREY)
    assert line.get_ydata() == [0.9, 0.9]
