import csv
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from hypergrad.figures import style
from hypergrad.figures.fig3 import draw as draw_fig3
from hypergrad.figures.fig3 import hd_note
from hypergrad.figures.fig3_data import (
    FINAL_COLUMNS,
    Figure3Data,
    figure_3_data,
    final_table,
    moving_average,
)
from hypergrad.figures.run_data import floats, read_run, where

INNER = (
    "seed method outer_step epoch step train_loss train_accuracy validation_loss "
    "validation_accuracy test_accuracy learning_rate momentum weight_decay seconds"
).split()
OUTER = (
    "seed outer_step kind index start_epoch end_epoch value hypergradient step_size sign "
    "contributing_steps"
).split()
HD_COLUMNS = (
    "seed step epoch learning_rate momentum weight_decay learning_rate_hypergradient "
    "momentum_hypergradient weight_decay_hypergradient"
).split()


def write_member(
    folder: Path,
    seeds: int = 1,
    steps: int = 20,
    windows: int = 4,
    outer_steps: int = 4,
    per_epoch: int = 10,
    ceiling: float = 0.98,
    noise: float = 0.02,
    lost: int | None = None,
    best: int | None = None,
    retrained: bool = True,
    rates: float = 0.2,
) -> Path:
    """A member as a run writes it: hd for `windows=0`, else shared or unshared."""
    folder.mkdir(parents=True)
    inner: list[list[object]] = []
    outer: list[list[object]] = []
    hd: list[list[object]] = []
    results: list[dict[str, object]] = []
    schedules = []
    name = "ours" if windows else "hd"
    for seed in range(seeds):
        rng = np.random.default_rng([seed, windows])
        values = np.zeros(max(windows, 1))
        target = 3 * rates * np.linspace(1, 0.1, max(windows, 1)) ** 1.5
        scores = []
        for outer_step in range(outer_steps if windows else 1):
            gone = outer_step == lost
            score = 0.1 if gone or (outer_step == 0 and windows) else ceiling
            score -= 0 if score == 0.1 else 0.3 * math.exp(-0.35 * outer_step) * (windows > 0)
            score += 0 if score == 0.1 else 0.002 * rng.standard_normal() + 0.001 * seed
            scores.append(-1.0 if gone else score)
            for row in (1, 2, 3, 4):
                loss = math.nan if gone and row > 1 else 2.3 * (1 - score)
                member = 0.1 + (score - 0.1) * row / 4
                step = steps * row // 4
                head = [seed, name, outer_step, step / per_epoch, step, loss, member, loss]
                inner.append([*head, member, member - 0.01, 0.1, 0, 0, 1])
            for index in range(windows):
                edges = [round(steps * k / windows) / per_epoch for k in (index, index + 1)]
                h = values[index] - target[index] + noise * rng.standard_normal()
                h = math.nan if gone else h
                value = values[index]
                outer.append(
                    [seed, outer_step, "learning_rate", index, *edges, value, h, 0.05, 1, 10]
                )
                values[index] -= 0 if gone else 0.3 * rates * np.sign(h) * 0.97**outer_step
        if windows and scores:
            chosen = int(np.argmax(scores)) if best is None else best
            schedules.append({"seed": seed, "outer_step": chosen})
        if not windows:
            walk = np.abs(np.cumsum(rng.standard_normal(steps))) * rates / math.sqrt(steps)
            for step, rate in enumerate(walk):
                hd.append([seed, step, step / per_epoch, rate, 0, 0, 0.1, 0, 0])
        if retrained:
            accuracy = ceiling + 0.001 + 0.002 * seed
            plain = {"seed": seed, "outer_step": None, "diverged": False}
            results.append({**plain, "method": name, "test_accuracy": 0.9})
            results.append({**plain, "method": f"{name}_retrained", "test_accuracy": accuracy})
    for file, header, rows in (
        ("inner", INNER, inner),
        ("outer", OUTER, outer),
        ("hd", HD_COLUMNS, hd),
    ):
        with (folder / f"{file}.csv").open("w", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    (folder / "schedule.json").write_text(json.dumps({"schedules": schedules}))
    settings = {"data": folder.name.split("_")[0], "epochs": steps / per_epoch}
    summary = {"experiment": "fig3", "status": "finished", "settings": settings}
    (folder / "summary.json").write_text(json.dumps({**summary, "results": results}))
    return folder


def write_top(
    run: Path,
    status: str = "finished",
    missing: dict[str, str] | None = None,
    members: tuple[str, ...] = ("mnist_shared", "mnist_unshared", "mnist_hd"),
    outer_steps: int = 4,
) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    summary = {
        "experiment": "fig3",
        "status": status,
        "progress": {"fraction": 0.25},
        "settings": {"model": "lenet", "scale": "cpu", "epochs": 2, "outer_steps": outer_steps},
        "missing": missing or {},
        "members": list(members),
    }
    (run / "summary.json").write_text(json.dumps(summary))
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of one data set, small enough to check by eye."""
    top = write_top(tmp_path / "run", missing={"svhn": "not asked for (data=mnist)"})
    write_member(top / "mnist_shared", windows=4)
    write_member(top / "mnist_unshared", windows=20)
    write_member(top / "mnist_hd", windows=0)
    return top


def collect(path: Path) -> Figure3Data:
    return figure_3_data(read_run(path))


def draw(path: Path) -> tuple[Figure, pd.DataFrame]:
    with style.house_style():
        return draw_fig3(read_run(path))


def words(figure: Figure) -> str:
    found = [text.get_text() for text in figure.texts]
    for legend in figure.legends:
        found += [text.get_text() for text in (legend.get_title(), *legend.get_texts())]
    found += [text.get_text() for axes in figure.axes for text in axes.texts]
    return " | ".join(found).replace("\n", " ")


def schedule(table: pd.DataFrame, method: str, outer_step: int) -> pd.DataFrame:
    return where(where(table, panel="schedule", method=method), outer_step=outer_step)


def rewrite(path: Path, change: dict[str, object]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def test_schedules_are_what_was_logged_over_inner_steps(run: Path) -> None:
    table = collect(run).table
    logged = pd.read_csv(run / "mnist_shared" / "outer.csv")
    rows = schedule(table, "shared", 3)
    assert rows["x"].tolist() == [0, 5, 10, 15]
    assert rows["end"].tolist() == [5, 10, 15, 20]
    assert rows["value"].tolist() == logged[logged["outer_step"] == 3]["value"].tolist()
    steps = schedule(table, "unshared", 2)
    assert steps["x"].tolist() == list(range(20))
    assert steps["end"].tolist() == list(range(1, 21))
    hd = where(table, panel="schedule", method="hd")
    logged = pd.read_csv(run / "mnist_hd" / "hd.csv")
    assert hd["value"].tolist() == pytest.approx(logged["learning_rate"].tolist(), rel=1e-15)
    assert hd["x"].tolist() == list(range(20))
    assert hd["outer_step"].isna().all()


def test_the_best_unshared_schedule_has_its_moving_average_beside_it(tmp_path: Path) -> None:
    top = write_top(tmp_path)
    write_member(top / "mnist_unshared", windows=100, steps=100, best=2)
    table = collect(top).table
    best = where(table, panel="schedule", best=True)
    assert set(best["outer_step"]) == {2}
    raw, smooth = where(best, averaged_steps=1), where(best, averaged_steps=5)
    assert len(raw) == len(smooth) == 100
    values = floats(raw, "value")
    # The same five numbers summed in another order at most.
    assert floats(smooth, "value")[50] == pytest.approx(values[48:53].mean(), rel=1e-12)
    assert floats(smooth, "value")[0] == pytest.approx(values[:3].mean(), rel=1e-12)
    assert set(where(table, panel="schedule", best=False)["averaged_steps"]) == {1}


def test_a_moving_average_of_one_is_the_values() -> None:
    assert moving_average(np.array([3.0, 1.0]), 1).tolist() == [3, 1]
    assert np.isnan(moving_average(np.array([1.0, math.nan, 1.0, 1.0]), 3)).tolist() == [
        *(True, True, True, False)
    ]


def test_accuracies_are_those_at_the_end_of_each_outer_step(run: Path) -> None:
    inner = run / "mnist_shared" / "inner.csv"
    logged = pd.read_csv(inner)
    # An outer step that is not over yet has rows here and none in outer.csv.
    with inner.open("a") as file:
        file.write("0,ours,4,0.5,5,1,0.5,1,0.77,0.77,0.1,0,0,1\n")
    rows = where(collect(run).table, panel="validation_accuracy", method="shared")
    assert rows["x"].tolist() == [0, 1, 2, 3]
    expected = logged[logged["step"] == 20]["validation_accuracy"].tolist()
    assert rows["value"].tolist() == pytest.approx(expected, rel=1e-15)
    assert rows["value"].tolist()[0] == 0.1
    assert int(rows["best"].sum()) == 1


def test_hd_has_an_accuracy_when_its_run_is_over(run: Path) -> None:
    member = run / "mnist_hd"

    def accuracies() -> list[float]:
        rows = where(collect(run).table, panel="validation_accuracy", method="hd")
        return rows["value"].tolist()

    lines = (member / "inner.csv").read_text().splitlines(keepends=True)
    final = float(lines[-1].split(",")[8])
    assert accuracies() == [final]
    rewrite(member / "summary.json", {"results": []})
    assert accuracies() == [final]  # both epochs are logged
    (member / "inner.csv").write_text("".join(lines[:-1]))
    assert accuracies() == []


def test_a_diverged_outer_step_is_crossed_at_what_it_scored(tmp_path: Path) -> None:
    top = write_top(tmp_path)
    write_member(top / "mnist_shared", lost=2)
    table = collect(top).table
    lost = where(table, panel="validation_accuracy", diverged=True)
    assert lost[["x", "value"]].to_numpy().tolist() == [[2.0, 0.1]]
    figure, _ = draw(top)
    crosses = [line for line in figure.axes[2].lines if line.get_marker() == "x"]
    points = [point for line in crosses for point in np.asarray(line.get_xydata()).tolist()]
    assert points == [[2.0, 0.1]]
    assert "loss not finite" in words(figure)


def test_an_accuracy_that_is_no_number_is_crossed_at_the_foot(tmp_path: Path) -> None:
    member = write_member(write_top(tmp_path) / "mnist_shared", outer_steps=2)
    inner = member / "inner.csv"
    lines = inner.read_text().splitlines()
    cells = lines[-1].split(",")
    cells[5], cells[8] = "nan", "nan"
    inner.write_text("\n".join([*lines[:-1], ",".join(cells)]) + "\n")
    figure, table = draw(tmp_path)
    assert math.isnan(where(table, panel="validation_accuracy")["value"].tolist()[1])
    crosses = [line for line in figure.axes[2].lines if line.get_marker() == "x"]
    assert [1.0, 0.0] in np.concatenate([line.get_xydata() for line in crosses]).tolist()


def test_both_schedule_panels_have_the_same_limits(run: Path) -> None:
    figure, table = draw(run)
    shared, unshared, accuracy = figure.axes[:3]
    assert shared.get_ylim() == unshared.get_ylim()
    ours = where(table, panel="schedule")
    ours = ours[ours["method"] != "hd"]["value"]
    low, high = shared.get_ylim()
    assert low < ours.min() <= ours.max() < high
    assert high - low == pytest.approx(1.14 * (ours.max() - ours.min()))
    assert shared.get_xlim() == (0, 20)
    assert accuracy.get_ylim()[1] <= 1
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == ["a", "b", "c"]


def test_a_line_drawn_is_the_line_in_the_table(run: Path) -> None:
    figure, table = draw(run)
    rows = schedule(table, "shared", 3)
    value = rows["value"].tolist()
    stairs = [[5.0 * ((k + 1) // 2), value[k // 2]] for k in range(8)]
    assert stairs in [np.asarray(line.get_xydata()).tolist() for line in figure.axes[0].lines]


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ([0.0, 1.0], ""),
        ([], ""),
        ([-0.26, 2.34], "hd leaves both panels (min \N{MINUS SIGN}0.26, max 2.3)"),
        ([-0.26, 0.3], "hd leaves both panels (min \N{MINUS SIGN}0.26)"),
        ([0.3, 2.0], "hd leaves both panels (max 2)"),
        ([0.5, math.nan], "hd leaves both panels (then not finite)"),
        ([math.nan], "hd leaves both panels (not finite)"),
    ],
)
def test_the_note_says_how_far_hd_leaves(values: list[float], note: str) -> None:
    assert hd_note(np.array(values, dtype=float), (-0.1, 1.0)) == note


def test_the_note_stands_once_over_both_panels(tmp_path: Path) -> None:
    top = write_top(tmp_path)
    write_member(top / "mnist_shared")
    write_member(top / "mnist_hd", windows=0, rates=50)
    figure, table = draw(top)
    highest = where(table, method="hd", panel="schedule")["value"].max()
    notes = [[text.get_text() for text in axes.texts] for axes in figure.axes[:2]]
    note = f"hd leaves both panels (max {highest:.2g})"
    assert note in notes[1]
    assert note not in notes[0]


def test_values_of_hd_are_points_with_an_arrow_at_the_farthest_outside(tmp_path: Path) -> None:
    top = write_top(tmp_path)
    write_member(top / "mnist_shared")
    write_member(top / "mnist_hd", windows=0, rates=50, steps=100)
    figure, table = draw(top)
    rows = where(table, method="hd", panel="schedule", averaged_steps=1)
    farthest = rows.iloc[int(rows["value"].argmax())]
    for axes in figure.axes[:2]:
        arrows = [line for line in axes.lines if line.get_marker() == "^"]
        places = [(line.get_xdata()[0], line.get_ydata()[0]) for line in arrows]
        assert ((farthest["x"] + farthest["end"]) / 2, axes.get_ylim()[1]) in places
        points = [line for line in axes.lines if line.get_marker() == "o"]
        assert rows["value"].tolist() in [line.get_ydata().tolist() for line in points]


def test_the_axis_has_room_for_the_less_good_method_too(tmp_path: Path) -> None:
    top = write_top(tmp_path)
    write_member(top / "mnist_shared", ceiling=0.99, outer_steps=20)
    write_member(top / "mnist_unshared", windows=20, ceiling=0.95, outer_steps=20)
    figure, table = draw(top)
    rows = where(table, panel="validation_accuracy", method="unshared")
    ticks = figure.axes[2].get_yticks()
    assert figure.axes[2].get_yscale() == "function"
    assert sum(tick < rows["value"].max() for tick in ticks) >= 4
    assert sum(tick > rows["value"].max() for tick in ticks) >= 2


def test_a_missing_data_set_is_named_and_gets_no_panel(run: Path) -> None:
    figure, _ = draw(run)
    assert len(figure.axes) == 4  # three panels and the colour bar
    assert "SVHN is missing: not asked for (data=mnist)." in words(figure)
    assert "UNFINISHED" not in words(figure)


def test_two_data_sets_have_a_row_each(run: Path) -> None:
    write_member(run / "svhn_shared", seeds=3)
    data = collect(run)
    assert (data.data_sets, data.absent) == (("mnist", "svhn"), {})
    assert data.seeds == {"mnist": (0,), "svhn": (0, 1, 2)}
    svhn = where(data.table, data="svhn")
    assert set(where(svhn, panel="schedule")["seed"]) == {0}
    assert set(where(svhn, panel="validation_accuracy")["seed"]) == {0, 1, 2}
    figure, _ = draw(run)
    assert [axes.get_title(loc="left") for axes in figure.axes[:6]] == list("abcdef")
    assert "Lines: seed 0 of the 3 seeds 0–2; faint: the others' accuracy" in words(figure)
    assert "no outer step yet" in words(figure)  # in the panel of what has not begun
    assert "is missing" not in words(figure)


def test_an_unfinished_run_says_so_and_has_its_final_colours(tmp_path: Path) -> None:
    members = ("mnist_shared", "mnist_unshared", "my_flowers_shared")
    top = write_top(tmp_path, status="running", members=members, outer_steps=50)
    write_member(top / "mnist_shared", outer_steps=1, retrained=False)
    (top / "mnist_unshared").mkdir()
    data = collect(top)
    assert data.outer_steps == 50
    assert data.absent == {"my_flowers": "no outer step yet"}
    figure, table = draw(top)
    assert "UNFINISHED RUN (running, 25 %)" in words(figure)
    assert "my_flowers is missing: no outer step yet." in words(figure)
    assert figure.axes[3].get_yticks().tolist() == [0, 10, 20, 30, 40]
    assert set(table["method"]) == {"shared"}


def test_a_finished_run_that_stopped_early_uses_all_colours(run: Path) -> None:
    write_top(run, outer_steps=50)
    assert collect(run).outer_steps == 4


def test_hd_alone_is_drawn(tmp_path: Path) -> None:
    top = write_top(tmp_path, status="running")
    write_member(top / "mnist_hd", windows=0)
    figure, table = draw(top)
    assert set(table["method"]) == {"hd"}
    assert words(figure).count("no outer step yet") == 2


def test_a_run_without_an_outer_step_is_refused(tmp_path: Path) -> None:
    top = write_top(tmp_path, status="running")
    (top / "mnist_shared").mkdir()
    (top / "figures").mkdir()
    with pytest.raises(ValueError, match=r"no outer step in any member yet: wait.*--run PATH$"):
        draw(top)


def test_a_member_without_its_inner_rows_is_refused(tmp_path: Path) -> None:
    member = write_member(write_top(tmp_path) / "mnist_shared")
    (member / "inner.csv").write_text(",".join(INNER) + "\n")
    with pytest.raises(ValueError, match=r"inner.csv lacks the rows of seed 0.*resume the run"):
        draw(tmp_path)


def test_the_same_data_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    written = []
    for name in ("first", "again"):
        with style.house_style():
            figure, table = draw_fig3(read_run(run))
            figure.savefig(tmp_path / f"{name}.png", metadata={"Software": None})
            figure.savefig(tmp_path / f"{name}.pdf", metadata={"CreationDate": None})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        written.append([(tmp_path / f"{name}.{end}").read_bytes() for end in ("png", "pdf", "csv")])
    assert written[0] == written[1]


def test_the_closing_table(tmp_path: Path) -> None:
    top = write_top(tmp_path, missing={"svhn": "cannot be loaded"})
    write_member(top / "mnist_shared", seeds=2, best=3)
    write_member(top / "mnist_hd", windows=0, ceiling=0.9)
    summary = json.loads((top / "mnist_hd" / "summary.json").read_text())
    summary["results"][1].update(test_accuracy=None, diverged=True)
    rewrite(top / "mnist_hd" / "summary.json", summary)
    table = final_table(top)
    assert list(table.columns) == FINAL_COLUMNS
    assert table["data"].tolist() == ["mnist"] * 3 + ["svhn"] * 3
    assert table["method"].tolist() == ["shared", "unshared", "hd"] * 2
    inner = pd.read_csv(top / "mnist_shared" / "inner.csv")
    ends = inner[(inner["outer_step"] == 3) & (inner["step"] == 20)]
    shared, unshared, hd = (table.iloc[i] for i in range(3))
    assert shared["best_outer_step"] == 3
    assert shared["validation_accuracy"] == pytest.approx(ends["validation_accuracy"].mean())
    assert shared["test_accuracy"] == pytest.approx(shared["validation_accuracy"] - 0.01)
    assert shared["retrained_mean"] == pytest.approx(0.982)  # of 0.981 and 0.983
    assert shared["retrained_std"] == pytest.approx(0.002 / math.sqrt(2))
    assert (shared["seeds"], shared["diverged"]) == (2, 0)
    assert pd.isna(unshared["best_outer_step"])
    assert math.isnan(unshared["validation_accuracy"])
    assert (unshared["seeds"], unshared["diverged"]) == (0, 0)
    assert pd.isna(hd["best_outer_step"])
    logged = pd.read_csv(top / "mnist_hd" / "inner.csv")["validation_accuracy"].iloc[-1]
    assert hd["validation_accuracy"] == pytest.approx(logged)
    assert math.isnan(hd["retrained_mean"])
    assert (hd["seeds"], hd["diverged"]) == (1, 1)
    assert table.iloc[3:][FINAL_COLUMNS[2:7]].isna().all(axis=None)
