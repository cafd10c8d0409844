import csv
import gzip
import io
import json
import math
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from hypergrad.figures import draw as draw_files
from hypergrad.figures import style
from hypergrad.figures.fig2 import ROUNDING, is_rounding, outside_note, set_scale
from hypergrad.figures.fig2 import draw as draw_fig2
from hypergrad.figures.fig2_data import (
    METHODS,
    PERTURBATIONS,
    figure_2_table,
    moving_average,
    ratios,
    read_hypergradients,
    step_statistics,
)
from hypergrad.figures.run_data import read_run, where

HEADER = "perturbation repeat method index start_step end_step value".split()
Row = tuple[str, int, str, int, int, int, float]
SETTINGS = {
    "data": "mnist",
    "model": "lenet",
    "scale": "paper",
    "precision": "float64",
    "batch_size": 64,
    "clip_gradient": 1.0,
    "steps": 40,
    "windows": 4,
    "learning_rate": 0.05,
    "momentum": 0.0,
    "repeats": 5,
    "perturbation_size": 0.01,
}


def rows_of(
    name: str, repeat: int, greedy: Iterable[float], unshared: Iterable[float], window: int
) -> list[Row]:
    """One repeat as a run writes it; the shared values are the means of the unshared ones."""
    steps = {"greedy": list(greedy), "unshared": list(unshared)}
    rows: list[Row] = [
        (name, repeat, method, i, i, i + 1, value)
        for method, values in steps.items()
        for i, value in enumerate(values)
    ]
    fine = steps["unshared"]
    for index, start in enumerate(range(0, len(fine), window)):
        window_values = fine[start : start + window]
        end = start + len(window_values)
        rows.append(
            (name, repeat, "shared", index, start, end, sum(window_values) / len(window_values))
        )
    return rows


def write(run: Path, rows: list[Row], zipped: bool = False, **top: object) -> Path:
    run.mkdir(parents=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows)
    content = text.getvalue().encode()
    if zipped:
        (run / "hypergradients.csv.gz").write_bytes(gzip.compress(content, mtime=0))
    else:
        (run / "hypergradients.csv").write_bytes(content)
    summary = {"experiment": "fig2", "status": "finished", "settings": SETTINGS, **top}
    (run / "summary.json").write_text(json.dumps(summary))
    return run


def noisy(
    names: Iterable[str] = PERTURBATIONS, repeats: int = 5, steps: int = 40, greedy: float = 1.0
) -> list[Row]:
    rng = np.random.default_rng(3)
    rows: list[Row] = []
    for name in names:
        for repeat in range(repeats):
            noise = 0.01 * rng.standard_normal((2, steps))
            rows += rows_of(name, repeat, greedy * (0.01 + noise[0]), noise[1] - 0.005, 10)
    return rows


def table_of(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=HEADER)


def draw(run: Path) -> tuple[Figure, pd.DataFrame]:
    with style.house_style():
        return draw_fig2(read_run(run))


def words(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if isinstance(t, Text) and t.get_text()]


# Three repeats, four steps, two windows of two steps.
SMALL = (
    rows_of("train", 0, [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 0.0, 2.0], 2)
    + rows_of("train", 1, [2.0, 2.0, 5.0, 4.0], [2.0, 4.0, 2.0, 2.0], 2)
    + rows_of("train", 2, [3.0, 2.0, 1.0, 7.0], [3.0, 8.0, 4.0, 5.0], 2)
)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = [*(rng.standard_normal(200) * 10.0 ** rng.integers(-12, 12, 200))]
    rows = rows_of("all", 0, map(float, values), [math.nan, math.inf, -math.inf, 5e-324], 4)
    for zipped in (False, True):
        run = write(tmp_path / str(zipped), rows, zipped)
        table = read_hypergradients(run)
        assert list(table.columns) == HEADER
        assert table["value"].tolist() == pytest.approx([r[-1] for r in rows], rel=0, nan_ok=True)
        kept = table.drop(columns="value").to_numpy().tolist()
        assert kept == [list(row[:-1]) for row in rows]


def test_the_plain_file_goes_before_the_zipped_one(tmp_path: Path) -> None:
    run = write(tmp_path / "run", SMALL)
    (run / "hypergradients.csv.gz").write_bytes(b"old")
    assert len(read_hypergradients(run)) == len(SMALL)


def test_a_half_written_line_is_left_out(tmp_path: Path) -> None:
    run = write(tmp_path / "run", SMALL)
    whole = (run / "hypergradients.csv").read_text()
    (run / "hypergradients.csv").write_text(whole[:-3])
    assert len(read_hypergradients(run)) == len(SMALL) - 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no hypergradient in hypergradients.csv yet: wait for the first repeat, or"),
        ("", "has no hypergradient in hypergradients.csv yet: wait for the first repeat, or"),
        (",".join(HEADER) + "\n", "has no hypergradient in .* with --run PATH"),
        ("repeat,value\n1,2\n", "lacks the column perturbation, method, index.* another run"),
        (",".join(HEADER) + "\nall,0,greedy,0,0,1,much\n", "is damaged .*: resume the run"),
        (",".join(HEADER) + "\nall,0,greedy,,0,1,1\n", "is damaged .*: resume the run"),
        (",".join(HEADER) + "\nall,0,sly,0,0,1,1\n", "unknown method sly: known are greedy"),
        (",".join(HEADER) + 2 * "\nall,0,greedy,0,0,1,1" + "\n", "holds a repeat twice: resume"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "hypergradients.csv").write_text(content)
    with pytest.raises(ValueError, match=message) as raised:
        read_hypergradients(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_damaged_archive_is_said_to_be(tmp_path: Path) -> None:
    whole = gzip.compress(b"perturbation" * 100)
    for content in (b"no archive", whole[:-12], whole[:12] + b"\0\0\0" + whole[15:]):
        (tmp_path / "hypergradients.csv.gz").write_bytes(content)
        with pytest.raises(ValueError, match="csv.gz is damaged .*: resume the run to rewrite it"):
            read_hypergradients(tmp_path)


def test_statistics_by_hand() -> None:
    table = step_statistics(table_of(SMALL))
    assert table["method"].tolist() == ["greedy"] * 4 + ["unshared"] * 4 + ["shared"] * 2
    assert table["index"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert table["start_step"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 2]
    assert table["end_step"].tolist() == [1, 2, 3, 4, 1, 2, 3, 4, 2, 4]
    # Shared: window 0 is 2, 3, 5.5 and window 1 is 1, 2, 4.5.
    mean = [2, 2, 3, 5, 2, 5, 2, 3, 3.5, 2.5]
    variance = [1, 0, 4, 3, 1, 7, 4, 3, 3.25, 3.25]
    assert table["mean"].tolist() == pytest.approx(mean)
    assert table["hypervariance"].tolist() == pytest.approx(variance)
    assert table["std"].tolist() == pytest.approx(np.sqrt(variance).tolist())
    assert set(table["repeats"]) == {3}
    assert set(table["dropped"]) == {0}


def test_equal_repeats_have_no_variance_at_all() -> None:
    rows = [row for r in range(7) for row in rows_of("all", r, [0.1], [0.1], 1)]
    assert step_statistics(table_of(rows))["hypervariance"].tolist() == [0.0] * 3


def test_what_is_not_finite_is_left_out_step_by_step() -> None:
    rows = SMALL + rows_of("train", 3, [4.0, math.inf, math.nan, 4.0], [math.nan] * 4, 2)
    table = step_statistics(table_of(rows))
    greedy = where(table, method="greedy")
    assert greedy["repeats"].tolist() == [4, 3, 3, 4]
    assert greedy["dropped"].tolist() == [0, 1, 1, 0]
    assert greedy["mean"].tolist() == pytest.approx([2.5, 2, 3, 4.75])
    assert where(table, method="shared")["dropped"].tolist() == [1, 1]
    alone = step_statistics(table_of(rows_of("train", 0, [1.0], [math.nan], 1)))
    assert alone["mean"].tolist() == pytest.approx([1.0, math.nan, math.nan], nan_ok=True)
    assert alone["hypervariance"].isna().all()


def test_perturbations_stand_in_the_order_of_the_figure() -> None:
    rows = [row for name in ("own", "all", "weights") for row in rows_of(name, 0, [1], [1], 1)]
    table = step_statistics(table_of(rows))
    assert list(dict.fromkeys(table["perturbation"])) == ["weights", "all", "own"]


def test_ratios_by_hand() -> None:
    found = ratios(table_of(SMALL))
    assert found["method"].tolist() == list(METHODS)
    assert found["hypervariance"].tolist() == pytest.approx([2, 3.75, 3.25])
    assert found["ratio"].tolist() == pytest.approx([2 / 3.75, 1, 3.25 / 3.75])
    assert found["independent"].tolist() == pytest.approx([math.nan, math.nan, 0.5], nan_ok=True)
    # Unshared |mean| / std: 2, 1.89, 1, 1.73; shared, each of two steps: 1.94, 1.39.
    unshared = (5 / math.sqrt(7) + 3 / math.sqrt(3)) / 2
    shared = (3.5 + 2.5) / 2 / math.sqrt(3.25)
    assert found["signal_to_noise"].tolist()[1:] == pytest.approx([unshared, shared])
    assert found["repeats"].tolist() == [3] * 3
    assert found["dropped"].tolist() == [0] * 3


def test_a_window_counts_with_its_number_of_steps() -> None:
    # Windows of two steps and of one: variances 2 and 8, so the mean over steps is 12 / 3.
    rows = [row for r, u in enumerate(([0.0, 0.0, 0.0], [2.0, 2.0, 4.0])) for row in
            rows_of("all", r, u, u, 2)]  # fmt: skip
    shared = where(ratios(table_of(rows)), method="shared").to_dict("records")[0]
    assert shared["hypervariance"] == pytest.approx(4)
    assert shared["ratio"] == pytest.approx(1)
    assert shared["independent"] == pytest.approx(2 / 3)
    assert shared["repeats"] == 2
    assert math.isnan(shared["low"])
    assert math.isnan(shared["high"])


def test_the_interval_is_that_of_an_explicit_bootstrap() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((6, 12)) + 3.0
    rows = [row for r in range(6) for row in rows_of("all", r, x[r], x[r].tolist(), 3)]
    found = where(ratios(table_of(rows), draws=300, seed=7), method="shared").to_dict("records")[0]
    counts = np.random.default_rng(7).multinomial(6, np.full(6, 1 / 6), size=300)
    drawn = []
    for count in counts:
        sample = np.repeat(x, count, axis=0)
        if len(np.unique(sample[:, 0])) > 1:
            shared = sample.reshape(6, 4, 3).mean(axis=2)
            drawn.append(shared.var(axis=0, ddof=1).mean() / sample.var(axis=0, ddof=1).mean())
    low, high = np.percentile(drawn, [2.5, 97.5])
    # Two ways to sum the same float64 numbers.
    assert (found["low"], found["high"]) == pytest.approx((low, high), rel=1e-10)
    assert found["low"] < found["ratio"] < found["high"]


def test_independent_noise_is_cut_to_one_over_w() -> None:
    rng = np.random.default_rng(2)
    rows = []
    for repeat in range(32):
        rows += rows_of("train", repeat, rng.standard_normal(400), rng.standard_normal(400), 40)
    found = ratios(table_of(rows)).set_index("method")
    shared = found.loc["shared"]
    # Ten variances of 32 repeats: a standard error of sqrt(2 / 310), 8 % of 1/40.
    assert shared["ratio"] == pytest.approx(1 / 40, rel=0.3)
    assert shared["independent"] == pytest.approx(1 / 40)
    assert shared["low"] < 1 / 40 < shared["high"]
    assert found.loc["unshared", ["ratio", "low", "high"]].tolist() == pytest.approx([1, 1, 1])


def test_a_repeat_that_is_not_finite_is_dropped_for_both_methods() -> None:
    lost = rows_of("train", 3, [4.0, 4.0, 4.0, 4.0], [math.nan, 1.0, 1.0, 1.0], 2)
    half = rows_of("train", 4, [4.0, 4.0, 4.0, 4.0], [1.0, 1.0, 1.0, 1.0], 2)[:4]
    found = ratios(table_of(SMALL + lost + half))
    clean = ratios(table_of(SMALL))
    assert found["dropped"].tolist() == [2, 1, 1]
    assert found["repeats"].tolist() == [3, 3, 3]
    same = ["hypervariance", "ratio", "low", "high", "signal_to_noise"]
    pd.testing.assert_frame_equal(found[same], clean[same])


def test_ratios_that_there_are_not() -> None:
    one = ratios(table_of(rows_of("train", 0, [1.0], [1.0], 1)))
    assert one[["hypervariance", "ratio", "low", "signal_to_noise"]].isna().all(axis=None)
    still = ratios(table_of([row for r in range(4) for row in rows_of("all", r, [1], [1], 1)]))
    assert still["hypervariance"].tolist() == [0, 0, 0]
    assert still[["ratio", "low", "high"]].isna().all(axis=None)
    unpaired = ratios(table_of([row for row in SMALL if row[2] != "unshared"]))
    assert unpaired["hypervariance"].tolist() == pytest.approx([2, 3.25])
    assert unpaired[["ratio", "low", "high"]].isna().all(axis=None)
    huge = [row for r in range(4) for row in rows_of("all", r, [r * 1e200], [r * 1e200], 1)]
    assert np.isinf(ratios(table_of(huge))["hypervariance"]).all()
    assert ratios(table_of(huge))["ratio"].isna().all()


def test_moving_averages_by_hand() -> None:
    values = np.array([4.0, 0.0, 2.0, 6.0])
    # An even width reaches one step further back than ahead.
    assert moving_average(values, 2).tolist() == [4, 2, 1, 4]
    assert moving_average(values, 3).tolist() == pytest.approx([2, 2, 8 / 3, 4])
    assert moving_average(values, 9).tolist() == [3, 3, 3, 3]
    tiny = moving_average(np.array([1e20, 0.0, 1e-20]), 1)
    assert tiny.tolist() == [1e20, 0.0, 1e-20]


def test_the_table_has_what_is_drawn() -> None:
    table = figure_2_table(table_of(SMALL), 2)
    greedy = where(table, method="greedy")
    assert greedy["smooth_mean"].tolist() == pytest.approx([2, 2, 2.5, 4])
    assert greedy["smooth_hypervariance"].tolist() == pytest.approx([1, 0.5, 2, 3.5])
    assert greedy["smooth_std"].tolist() == pytest.approx(np.sqrt([1, 0.5, 2, 3.5]).tolist())
    assert greedy["averaged_steps"].tolist() == [2] * 4
    shared = where(table, method="shared")
    assert shared["averaged_steps"].tolist() == [1, 1]
    assert shared["smooth_hypervariance"].tolist() == pytest.approx([3.25, 3.25])
    assert shared["ratio"].tolist() == pytest.approx([3.25 / 3.75] * 2)


def test_a_row_of_panels_a_perturbation(tmp_path: Path) -> None:
    figure, table = draw(write(tmp_path / "run", noisy()))
    assert figure.get_size_inches().tolist() == pytest.approx([7, 8.5])
    assert [axes.get_title(loc="left") for axes in figure.axes] == list("abcdefghij")
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"] * 5
    assert {axes.get_xlim() for axes in figure.axes} == {(0, 40)}
    said = words(figure)
    for title in (
        "perturbed: initial weights ± 1 %",
        "perturbed: learning rates ± 1 %",
        "perturbed: training batches",
        "perturbed: validation batches",
        "perturbed: all at once",
    ):
        assert title in said
    assert said.count("5 repeats") == 5
    assert len(table) == 5 * (40 + 40 + 4)


def test_lines_are_the_table(tmp_path: Path) -> None:
    figure, table = draw(write(tmp_path / "run", noisy(["train"])))
    left, right = ([line.get_xydata().tolist() for line in a.lines] for a in figure.axes)
    for method in METHODS:
        rows = where(table, method=method)
        for name, lines in (("smooth_hypervariance", left), ("smooth_mean", right)):
            values = rows[name].to_numpy()
            if method == "shared":
                ends = rows[["start_step", "end_step"]].to_numpy().ravel()
                wanted = np.stack([ends, np.repeat(values, 2)], axis=1)
            else:
                wanted = np.stack([rows["index"] + 0.5, values], axis=1)
            assert wanted.tolist() in lines
    raw = where(table, method="unshared")["hypervariance"].to_numpy()
    assert np.stack([np.arange(40) + 0.5, raw], axis=1).tolist() in left
    # The band is the mean and the standard deviation on either side, and lies in the panel.
    shared = where(table, method="shared")
    band = figure.axes[1].collections[2].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx((shared["mean"] + shared["std"]).max())
    assert band[:, 1].min() == pytest.approx((shared["mean"] - shared["std"]).min())
    low, high = figure.axes[1].get_ylim()
    assert low < band[:, 1].min() < band[:, 1].max() < high


def test_the_note_is_the_ratio(tmp_path: Path) -> None:
    run = write(tmp_path / "run", noisy(["train"]))
    row = where(ratios(read_hypergradients(run)), method="shared").to_dict("records")[0]
    note = f"shared/unshared {row['ratio']:.2g} [{row['low']:.2g}, {row['high']:.2g}], 1/W = 0.1"
    assert note in words(draw(run)[0])


@pytest.mark.parametrize(("size", "noise"), [(1e-14, True), (1e-12, False), (1e-9, False)])
def test_a_row_of_rounding_noise_is_said_to_be_that(
    tmp_path: Path, size: float, noise: bool
) -> None:
    rng = np.random.default_rng(3)
    rows = []
    for repeat in range(4):
        own = 0.3 * (1 + size * rng.standard_normal(12))
        rows += rows_of("validation", repeat, own[:4], own[4:8], 2)
    said = words(draw(write(tmp_path / "run", rows))[0])
    assert (ROUNDING in said) == noise
    assert any(text.startswith("shared/unshared") for text in said) != noise


def test_rounding_is_that_of_the_runs_precision() -> None:
    columns = {"method": ["shared"], "mean": [1.0], "hypervariance": [1e-10]}
    rows = pd.DataFrame(columns)
    assert is_rounding(rows, "float32")
    assert not is_rounding(rows, "float64")
    assert not is_rounding(rows.assign(hypervariance=0.0), "float32")
    assert not is_rounding(rows.assign(hypervariance=np.nan), "float32")


def test_methods_keep_their_colours(tmp_path: Path) -> None:
    figure, _ = draw(write(tmp_path / "run", noisy(["train"])))
    handles = figure.legends[0].get_lines()
    assert [line.get_color() for line in handles] == ["#D55E00", "#009E73", "#0072B2"]


def test_the_caption(tmp_path: Path) -> None:
    said = " ".join(" ".join(words(draw(write(tmp_path / "run", noisy(["all"])))[0])).split())
    assert (
        "fig2: data mnist, model lenet, scale paper. float64, batch size 64, c_g = 1, T = 40, "
        "4 windows, learning rate 0.05, momentum 0, 5 repeats of each perturbation. "
        "W = 10 steps a window. Greedy and unshared: moving averages over 10 steps"
    ) in said
    assert "UNFINISHED" not in said
    free = {k: v for k, v in SETTINGS.items() if k != "clip_gradient"}
    run = write(tmp_path / "free", noisy(["all"]), settings=free)
    assert "batch size 64, gradients not clipped, T = 40" in " ".join(words(draw(run)[0]))


def test_an_unfinished_run_with_one_repeat(tmp_path: Path) -> None:
    rows = noisy(["weights"]) + noisy(["learning_rate"], repeats=1)
    run = write(tmp_path / "run", rows, status="running", progress={"fraction": 0.24})
    figure, _ = draw(run)
    said = words(figure)
    assert "UNFINISHED RUN (running, 24 %)" in said
    assert "1 repeat" in said
    assert "no ratio: needs two finite repeats" in said
    assert "needs two finite repeats" in said
    assert len(figure.axes) == 4


def test_methods_that_are_missing(tmp_path: Path) -> None:
    rows = [row for row in noisy(["train"]) if row[2] != "shared"]
    figure, table = draw(write(tmp_path / "run", rows))
    assert "no ratio: shared missing" in words(figure)
    assert set(table["averaged_steps"]) == {4}  # a tenth of the run
    assert len(figure.legends[0].get_lines()) == 2


def test_repeats_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    rows = noisy(["train"])
    rows += rows_of("train", 5, [math.nan] * 40, [math.inf] * 40, 10)
    figure, table = draw(write(tmp_path / "run", rows))
    assert "6 repeats, 1 not finite" in words(figure)
    clean = figure_2_table(table_of(noisy(["train"])), 10)
    pd.testing.assert_frame_equal(
        table.drop(columns="dropped"), clean.drop(columns="dropped"), check_dtype=False
    )
    lost = [(*row[:-1], math.nan) for row in noisy(["train"])]
    assert "5 repeats, 5 not finite" in words(draw(write(tmp_path / "lost", lost))[0])


def test_where_nothing_varies_the_panel_says_so(tmp_path: Path) -> None:
    rows = [row for r in range(3) for row in rows_of("all", r, [0.1] * 4, [0.2] * 4, 2)]
    said = words(draw(write(tmp_path / "run", rows))[0])
    assert "no variance at all" in said
    assert "no ratio: no variance" in said


def test_methods_of_unlike_size_get_a_logarithmic_axis(tmp_path: Path) -> None:
    figure, _ = draw(write(tmp_path / "run", noisy(["train"], greedy=1000.0)))
    axes = figure.axes[1]
    assert axes.get_yscale() == "symlog"
    # The shared values, at most 0.02, fill much of the panel's height.
    heights = axes.transAxes.inverted().transform(axes.transData.transform([(0, -0.01), (0, 0.01)]))
    assert heights[1, 1] - heights[0, 1] > 0.2
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert "0" in labels
    assert 4 <= len(labels) <= 7


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e12])
def test_scales_hold_for_any_size(size: float) -> None:
    alike = {"a": (np.array([-size]), np.array([size])), "b": (np.array([0.0]), np.array([size]))}
    axes = Figure().add_subplot()
    set_scale(axes, alike)
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "linear"
    assert low < -0.95 * size
    assert 0.95 * size < high < 1.5 * size
    axes = Figure().add_subplot()
    set_scale(axes, {**alike, "c": (np.array([-1e4 * size]), np.array([math.nan]))})
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "symlog"
    assert low == pytest.approx(-1.5e4 * size)
    assert high == pytest.approx(1.5 * size)


def test_a_scale_of_nothing() -> None:
    axes = Figure().add_subplot()
    set_scale(axes, {"greedy": (np.array([math.nan]), np.array([math.nan]))})
    assert axes.get_ylim() == (-1, 1)


def test_what_leaves_the_panel_is_noted() -> None:
    lines = {"greedy": np.array([-3.21, 0.0, 7.77]), "unshared": np.array([0.5, math.nan])}
    assert outside_note(lines, (-1, 1)) == "beyond the panel: greedy \N{MINUS SIGN}3.2 and 7.8"
    assert outside_note(lines, (-4, 0.4)) == "beyond the panel: greedy 7.8, unshared 0.5"
    assert outside_note(lines, (-4, 8)) == ""
    assert outside_note({"greedy": np.array([math.nan])}, (-1, 1)) == ""


def test_a_peak_leaves_the_panel_rather_than_choose_it(tmp_path: Path) -> None:
    rows = []
    for repeat in range(3):
        greedy = [-2.0] + [0.01 * repeat + 0.01] * 199
        rows += rows_of("train", repeat, greedy, [0.01 * repeat] * 200, 1)
    figure, _ = draw(write(tmp_path / "run", rows))
    assert figure.axes[1].get_ylim()[0] > -0.1
    assert "beyond the panel: greedy \N{MINUS SIGN}2" in words(figure)


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run = write(tmp_path / "run", noisy(["train"]), zipped=True)
    first = [path.read_bytes() for path in draw_files("fig2", run, tmp_path / "a")]
    again = [path.read_bytes() for path in draw_files("fig2", run, tmp_path / "b")]
    assert first == again
    logged = pd.read_csv(tmp_path / "a" / "fig2.csv")
    assert len(logged) == 84


def test_the_data_are_light_to_import() -> None:
    code = (
        "import sys, hypergrad.figures.fig2_data\n"
        "print([name for name in ('torch', 'matplotlib', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
