import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from searches import RATES, Row, cosine_rows, multistep_rows, random_rows, trial, write_search

from hypergrad.core.rules.sgd import NAMES
from hypergrad.core.rules.sgd_schedules import preset_schedule, sgd_schedule
from hypergrad.figures import draw as draw_files
from hypergrad.figures import style
from hypergrad.figures.fig5 import draw as draw_fig5
from hypergrad.figures.fig5_data import Figure5Data, figure_5_data
from hypergrad.figures.fig5_lower import spread
from hypergrad.figures.run_data import read_run

Write = Callable[..., Path]
MEDIAN = 1.3  # points: what no other line is wide


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes the run directory of a search."""

    def make(rows: list[Row], **summary: object) -> Path:
        return write_search(tmp_path / "run", rows, **summary)

    return make


def data_of(run: Path) -> Figure5Data:
    return figure_5_data(read_run(run))


def draw(run: Path) -> tuple[Figure, pd.DataFrame]:
    with style.house_style():
        return draw_fig5(read_run(run))


def lower_panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_xlabel() not in ("epoch", "")]


def upper_panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_xlabel() == "epoch"]


def points(axes: Axes, marker: str = "oX") -> list[Line2D]:
    """The settings drawn in a panel; the ring around the best one is larger."""
    return [m for m in axes.lines if m.get_marker() in marker and m.get_markersize() < 5]


def heights(lines: list[Line2D]) -> list[float]:
    return sorted(float(line.get_ydata()[0]) for line in lines)


def untested(rows: list[Row]) -> list[Row]:
    return [{**row, "test_accuracy": ""} for row in rows]


def test_a_setting_is_the_mean_over_its_seeds(write: Write) -> None:
    rows = [trial(7, seed, value) for seed, value in enumerate((0.8, 0.86, 0.1))]
    rows += [trial(2, 0, 0.9, momentum=0.45)]
    first, second = data_of(write(rows)).candidates
    assert (first.number, first.accuracy, first.trials, first.complete) == (2, 0.9, 1, False)
    assert math.isnan(first.std)
    assert (second.trials, second.diverged, second.complete) == (3, 1, True)
    assert second.accuracy == pytest.approx(1.76 / 3, rel=1e-12)
    # The definition, with n - 1.
    squares = sum((value - 1.76 / 3) ** 2 for value in (0.8, 0.86, 0.1))
    assert second.std == pytest.approx(math.sqrt(squares / 2), rel=1e-12)
    assert second.validation[1] == math.inf


@pytest.mark.parametrize(
    ("trials", "best"),
    [
        # (setting, validation accuracy, validation loss); three seeds make a setting.
        ([(0, 0.8, 1.0), (1, 0.9, 1.0), (2, 0.7, 0.1)], 1),
        ([(0, 0.8, 1.0), (1, 0.8, 0.9), (2, 0.8, 1.1)], 1),
        ([(4, 0.8, 0.5), (5, 0.8, 0.5)], 4),
        ([(0, 0.9, math.nan), (1, 0.9, math.inf), (2, 0.3, 2.0)], 2),
        ([(0, 0.1, math.inf), (1, 0.1, math.nan)], None),
    ],
)
def test_the_best_is_chosen_by_validation(
    write: Write, trials: list[tuple[int, float, float]], best: int | None
) -> None:
    rows = [
        # The test set would choose setting 0.
        trial(setting, seed, accuracy, validation_loss=loss, test_accuracy=0.9 - setting / 10)
        for setting, accuracy, loss in trials
        for seed in range(3)
    ]
    assert data_of(write(rows, status="running")).best == best


def test_a_setting_without_all_its_seeds_is_not_the_best(write: Write) -> None:
    rows = [trial(0, seed, 0.8) for seed in range(3)] + [trial(1, seed, 0.9) for seed in range(2)]
    assert data_of(write(rows, status="running")).best == 0


def test_the_choice_of_the_run_stands(write: Write) -> None:
    rows = [trial(n, seed, 0.8 + n / 100) for n in range(3) for seed in range(3)]
    assert data_of(write(rows, best={"setting": 1})).best == 1


@pytest.mark.parametrize("schedule", ["multistep", "cosine", "constant"])
def test_schedules_are_those_that_were_trained_with(write: Write, schedule: str) -> None:
    factor = 0.2 if schedule == "multistep" else ""
    row = trial(0, 0, 0.8, schedule=schedule, factor=factor, learning_rate=0.4)
    data = data_of(write([row], schedule=schedule, epochs=10))
    start, end, value = data.steps(data.candidates[0], "learning_rate")
    trained = np.array(  # with the default milestones
        preset_schedule(schedule, 200, learning_rate=0.4, milestones=(0.3, 0.6, 0.8), factor=0.2)[
            "learning_rate"
        ]
    )  # 20 steps an epoch
    epochs = np.arange(200) / 20
    if schedule == "cosine":
        assert (start == end).all()
        assert value[-1] == pytest.approx(0, abs=1e-15)
        assert np.interp(epochs, start, value) == pytest.approx(trained, abs=1e-4)  # linear between
        return
    assert (start[0], end[-1]) == (0, 10)
    assert start[1:].tolist() == end[:-1].tolist()
    # Steps on an edge belong to either side, as rounding has it.
    middle = epochs + 1 / 40
    drawn = value[np.searchsorted(end, middle)]
    assert drawn == pytest.approx(trained, rel=1e-12)


def test_windows_are_equally_long(write: Write) -> None:
    data = data_of(write(random_rows(1), epochs=14))
    schedule = sgd_schedule(*(data.candidates[0].values[kind] for kind in data.kinds))
    start, end, value = data.steps(data.candidates[0], "learning_rate")
    assert start.tolist() == pytest.approx([0, 2, 4, 6, 8, 10, 12])
    assert end.tolist() == pytest.approx([2, 4, 6, 8, 10, 12, 14])
    assert value.tolist() == [schedule.at(step, 14)["learning_rate"] for step in range(0, 14, 2)]


def test_panels_are_what_was_searched(write: Write, tmp_path: Path) -> None:
    grid = data_of(write(multistep_rows(1)))
    assert grid.kinds == ("learning_rate", "momentum", "weight_decay")
    assert grid.panels == ("learning_rate", "factor", "momentum", "weight_decay", "overall")
    cosine = data_of(write_search(tmp_path / "cosine", cosine_rows(1)))
    assert cosine.kinds == ("learning_rate",)
    assert cosine.panels == ("learning_rate", "overall")
    random = data_of(write_search(tmp_path / "random", random_rows(5)))
    assert random.panels == ("learning_rate", "last_learning_rate", "momentum", "weight_decay")


def test_the_table_holds_all_that_is_drawn(write: Write) -> None:
    rows = random_rows(12, seeds=2)
    run = write(rows, repeats=2)
    figure, table = draw(run)
    reached = [row["test_accuracy"] for row in rows]  # each seed has settings of its own
    for axes, (by, drawn) in zip(
        lower_panels(figure),
        table[table["panel"] == "test_accuracy"].groupby("by", sort=False),
        strict=True,
    ):
        assert drawn["value"].tolist() == reached
        on_panel = {(m.get_xdata()[0], m.get_ydata()[0]) for m in points(axes)}
        assert on_panel == set(zip(drawn["x"], drawn["value"], strict=True)), by
    rates = [[float(word) for word in str(row["learning_rate"]).split()] for row in rows]
    schedule = table[(table["panel"] == "schedule") & (table["by"] == "learning_rate")]
    assert schedule["value"].tolist() == [value for values in rates for value in values]
    largest = table[(table["panel"] != "schedule") & (table["by"] == "learning_rate")]["x"]
    last = table[table["by"] == "last_learning_rate"]["x"]
    assert largest.tolist() == [max(values) for values in rates]
    assert last.tolist() == [values[-1] for values in rates]


def test_the_grid(write: Write) -> None:
    rows = multistep_rows()
    figure, table = draw(write(rows, best={"setting": 74}))
    upper, lower = upper_panels(figure), lower_panels(figure)
    assert (len(upper), len(lower)) == (3, 5)
    logged = pd.DataFrame(rows).groupby("setting").agg({"test_accuracy": "mean", "diverged": "sum"})
    for axes in lower:
        assert heights(points(axes)) == pytest.approx(sorted(logged["test_accuracy"]), rel=1e-12)
        assert len(points(axes, "X")) == (logged["diverged"] > 0).sum()
        assert not any(m.get_markerfacecolor() == "white" for m in points(axes))
    # 27 settings have each learning rate; each stays in its column.
    columns = [round(float(m.get_xdata()[0])) for m in points(lower[0])]
    assert [columns.count(column) for column in range(5)] == [27] * 5
    assert [t.get_text() for t in lower[0].get_xticklabels()] == [str(rate) for rate in RATES]
    assert [t.get_text() for t in lower[3].get_xticklabels()] == ["0.25", "0.5", "1"]
    assert r"10^{-3}" in lower[3].get_xlabel()
    assert upper[0].get_yscale() == "log"
    assert upper[1].get_yticks().tolist() == [0.45, 0.9, 0.99]
    assert [axes.get_title("left") for axes in figure.axes] == list("abcdefgh")
    assert lower[0].get_ylabel() == "test accuracy (%)"
    assert len(table) == 135 * (4 + 1 + 1 + 5)


def test_the_best_is_marked_in_every_panel(write: Write) -> None:
    figure, table = draw(write(multistep_rows(), best={"setting": 74}))
    best = table[table["best"]]
    assert set(best["setting"]) == {74}
    for axes, kind in zip(upper_panels(figure), NAMES, strict=True):
        (line,) = (line for line in axes.lines if line.get_path_effects())
        values = best[(best["panel"] == "schedule") & (best["by"] == kind)]["value"]
        assert line.get_ydata().tolist() == np.repeat(values, 2).tolist()
    accuracy = best[best["panel"] == "test_accuracy"]["value"].iloc[0]
    for axes in lower_panels(figure):
        (ring,) = (m for m in axes.lines if m.get_marker() == "o" and m.get_markersize() > 5)
        assert ring.get_ydata()[0] == accuracy
        assert [ring.get_xdata()[0], accuracy] in [
            [m.get_xdata()[0], m.get_ydata()[0]] for m in points(axes)
        ]


def test_medians_and_the_number_of_diverged(write: Write) -> None:
    rows = multistep_rows()
    figure, _ = draw(write(rows))
    axes = lower_panels(figure)[2]
    logged = pd.DataFrame(rows)
    means = logged.groupby(["momentum", "setting"]).mean(numeric_only=True).reset_index()
    medians = [line.get_ydata()[0] for line in axes.lines if line.get_linewidth() == MEDIAN]
    expected = means.groupby("momentum")["test_accuracy"].median()
    assert medians == pytest.approx(expected.tolist(), rel=1e-12)
    lost = (means["diverged"] > 0).groupby(means["momentum"]).sum()
    assert lost[0.99] > 0
    assert lost[0.45] == lost[0.9] == 0
    assert [text.get_text() for text in axes.texts] == [str(lost[0.99])]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert f"a seed diverged ({lost.sum()} of 135)" in words


def test_the_scale_of_accuracies_is_said_where_it_is_not_linear(write: Write) -> None:
    rows = [trial(n, seed, 0.95 - n / 40) for n in range(3) for seed in range(3)]
    figure, _ = draw(write(rows))
    assert {axes.get_yscale() for axes in lower_panels(figure)} == {"function"}
    assert "Accuracies: log scale of the error." in figure.texts[0].get_text().replace("\n", " ")


def test_a_linear_axis_ends_where_the_settings_do(write: Write) -> None:
    figure, _ = draw(write([trial(n, seed, 0.5 - n / 40) for n in range(3) for seed in range(3)]))
    for axes in lower_panels(figure):
        assert axes.get_ylim() == pytest.approx((0.0, 0.53))
    assert "scale of the error" not in figure.texts[0].get_text()


def test_colours_are_those_of_the_initial_learning_rate(write: Write) -> None:
    figure, table = draw(write(multistep_rows(1), repeats=1))
    colours = dict(zip(RATES, style.sequence_colours(5), strict=True))
    for line in upper_panels(figure)[0].lines:
        assert line.get_color() == colours[float(line.get_ydata()[0])]
    momentum = table[(table["panel"] == "test_accuracy") & (table["by"] == "learning_rate")]
    expected = {
        (value, colours[rate]) for value, rate in zip(momentum["value"], momentum["x"], strict=True)
    }
    assert {(m.get_ydata()[0], m.get_color()) for m in points(lower_panels(figure)[2])} == expected


def test_an_unfinished_grid_is_drawn_from_what_is_there(write: Write) -> None:
    rows = [row for row in multistep_rows() if row["seed"] == 0 or int(str(row["setting"])) < 40]
    progress = {"phase": "trials", "fraction": 0.4}
    run = write(untested(rows), status="interrupted", progress=progress)
    with (run / "trials.csv").open("a") as file:
        file.write("134,1,134-1,multistep,0.6")
    figure, table = draw(run)
    assert figure.legends[0].get_title().get_text() == "UNFINISHED RUN (interrupted, 40 %)"
    for axes in lower_panels(figure):
        hollow = [m for m in points(axes) if m.get_markerfacecolor() == "white"]
        assert len(points(axes)) == 135
        assert len(hollow) == 95
    assert lower_panels(figure)[0].get_ylabel() == "validation accuracy (%)"
    assert set(table["panel"]) == {"schedule", "validation_accuracy"}
    assert (table["setting"][table["best"]] < 40).all()
    assert "seeds missing" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_one_trial_is_a_figure(write: Write) -> None:
    figure, table = draw(write(multistep_rows()[:1], status="running"))
    assert (len(upper_panels(figure)), len(lower_panels(figure))) == (1, 1)
    assert not table["best"].any()
    assert "1 setting, 3 seeds each" in figure.texts[0].get_text()


def test_the_cosine_grid_names_what_it_does_not_search(write: Write) -> None:
    figure, table = draw(write(cosine_rows(), data="mnist", epochs=2, best={"setting": 2}))
    (upper,), lower = upper_panels(figure), lower_panels(figure)
    assert [axes.get_xlabel() for axes in lower] == ["learning rate\nα₀", "all settings"]
    assert upper.get_yscale() == "linear"
    assert [line.get_xdata()[-1] for line in upper.lines] == [2] * 5
    words = figure.texts[0].get_text().replace("\xa0", " ").replace("\n", " ")
    assert "along a cosine. β = 0, μ = 0." in words
    assert "Best: setting 2, α₀ = 0.2, β = 0, μ = 0." in words
    assert "numbers above" not in words
    # Five settings leave room for their standard deviations.
    accuracies = pd.DataFrame(cosine_rows()).groupby("setting")["test_accuracy"]
    bars = [segment for bar in lower[0].collections for segment in bar.get_segments()]
    assert [np.ptp(bar[:, 1]) for bar in bars] == pytest.approx((2 * accuracies.std()).tolist())
    assert [bar[:, 1].mean() for bar in bars] == pytest.approx(accuracies.mean().tolist())


def test_random_search_shows_single_values_that_ruin_a_run(write: Write) -> None:
    rows = random_rows(100)
    figure, table = draw(write(rows, repeats=1, search="random", milestones=None))
    lower = lower_panels(figure)
    labels = [axes.get_xlabel() for axes in lower]
    assert labels[:3] == ["largest learning rate α", "last learning rate α", "momentum β"]
    logged = pd.DataFrame(rows)
    above = logged["momentum"] > 1
    medians = [m for m in lower[2].lines if m.get_linewidth() == MEDIAN]
    assert [line.get_xdata()[1] for line in medians] == [1.0, logged["momentum"].max()]
    assert [line.get_ydata()[0] for line in medians] == [
        logged["test_accuracy"][~above].median(),
        logged["test_accuracy"][above].median(),
    ]
    last = np.array([float(str(rates).split()[-1]) for rates in logged["learning_rate"]])
    expected = np.where(above, "#D55E00", np.where(last < 0, "#E69F00", "#0072B2"))
    drawn = {(m.get_xdata()[0], m.get_color()) for m in points(lower[2])}
    assert drawn == set(zip(logged["momentum"], expected, strict=True))
    assert (table["by"] == "last_learning_rate").sum() == 100
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[1:4] == ["β ≤ 1, last α ≥ 0", "β ≤ 1, last α < 0", "β > 1"]


def test_random_schedules_are_coloured_by_accuracy(write: Write) -> None:
    figure, table = draw(write(random_rows(30), repeats=1))
    best = table[table["best"] & (table["panel"] == "test_accuracy")]["value"].iloc[0]
    assert best == table[table["panel"] == "test_accuracy"]["value"].max()
    levels = upper_panels(figure)[1].collections
    shades = [to_hex(level.get_color()[0][:3]) for level in levels]
    # From the worst to the best: lighter to darker, all but the best, which is a line.
    green = [int(shade[3:5], 16) for shade in shades]
    assert green == sorted(green, reverse=True)
    assert len(shades) == 29
    assert figure.axes[-1].get_ylabel() == "accuracy (%)"


@pytest.mark.parametrize(
    ("rows", "summary", "message"),
    [
        ([], {}, r"trials.csv has no finished trial yet: wait for the first.*--run PATH$"),
        ([trial(0, 0, 0.8, schedule="hd")], {}, "hypergradient descent, .*a grid or a random"),
        (
            [trial(0, 0, 0.8), trial(1, 0, 0.8, schedule="cosine")],
            {},
            "mixes the schedules cosine, multistep: choose the run of one",
        ),
        ([trial(0, 0, 0.8)], {"best": {"setting": 3}}, "names trial '3-0' as the best.*resume"),
        ([trial(0, 0, 0.8, learning_rate="0.1 x")], {}, "is damaged .*'x'.*resume the run"),
        ([trial(0, 0, 0.8, learning_rate="")], {}, "trial 0-0 has no learning_rate"),
        ([trial(0, 0, 0.8, factor="")], {}, "trial 0-0 has no factor"),
        ([trial(0, 0, 80.0)], {}, "accuracy of trial 0-0 is no fraction"),
        ([trial(0, 0, 0.8, validation_accuracy="")], {}, "accuracy of trial 0-0 is no fraction"),
        ([trial(0, 0, 0.8, diverged="a")], {}, "is damaged"),
        ([trial(0, 0, 0.8)], {"epochs": None}, "has epochs '' where numbers belong: resume"),
        ([trial(0, 0, 0.8)], {"milestones": "a b"}, "has milestones 'a b' where numbers belong"),
        ([trial(0, 0, 0.8)], {"repeats": ""}, "has repeats '' where numbers belong"),
    ],
)
def test_what_cannot_be_drawn_says_why(
    write: Write, rows: list[Row], summary: dict[str, object], message: str
) -> None:
    run = write(rows, **summary)
    with pytest.raises(ValueError, match=message):
        draw_files("fig5", run)
    assert not (run / "figures").exists()


def test_the_same_data_gives_the_same_bytes(write: Write, tmp_path: Path) -> None:
    run = write(multistep_rows(1), repeats=1)
    first, again = draw_files("fig5", run), draw_files("fig5", run, tmp_path / "elsewhere")
    assert [path.name for path in first] == ["fig5.png", "fig5.pdf", "fig5.csv"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_points_of_a_strip_are_spread_over_its_width() -> None:
    values = np.random.default_rng(0).normal(size=60)
    moved = spread(values)
    assert np.abs(moved).max() <= 0.4
    assert moved[np.argmax(values)] == 0
    # Multiples of the golden ratio: of 60, no two are nearer than 1 / (60 sqrt(5)) of the width.
    assert np.diff(np.sort(moved)).min() > 0.8 / (60 * 5**0.5)
    # Neighbours in height stand at least 38 % of the width apart.
    assert np.abs(np.diff(moved[np.argsort(values)])).min() == pytest.approx(0.8 * 0.382, rel=1e-3)


def test_a_record_that_names_its_choice_by_number_alone_is_read(write: Write) -> None:
    rows = [trial(n, seed, 0.8 + n / 100) for n in range(3) for seed in range(3)]
    run = write(rows)
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "best": {"setting": 1}}))
    assert data_of(run).best == 1


def test_every_seed_of_a_random_search_has_settings_of_its_own(write: Write) -> None:
    rows = random_rows(8)
    others = [
        {**row, "seed": 1, "trial": f"{row['setting']}-1", "learning_rate": "0.9 0.9 0.9"}
        for row in random_rows(8)
    ]
    figure, table = draw(write([*rows, *others], repeats=2))
    accuracies = table[(table["panel"] == "test_accuracy") & (table["by"] == "learning_rate")]
    assert len(accuracies) == 16
    assert set(accuracies["trials"]) == {1}
    assert (accuracies["x"].to_numpy()[8:] == 0.9).all()
    assert "16 settings, 1 seed each" in figure.texts[0].get_text()
