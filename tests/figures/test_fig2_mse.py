import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hypergrad.figures import draw as draw_files
from hypergrad.figures.fig2_data import read_hypergradients
from hypergrad.figures.fig2_errors import sharing_errors
from hypergrad.figures.fig2_mse import draw
from hypergrad.figures.run_data import read_run
from tests.figures.test_fig2 import noisy, write

RECORD = Path(__file__).parents[2] / "experiments" / "fig2" / "record"


def table_of(values: np.ndarray) -> pd.DataFrame:
    """Unshared hypergradients `(repeats, steps)` as a run logs them."""
    repeats, steps = values.shape
    rows = [
        ("train", r, "unshared", t, t, t + 1, values[r, t])
        for r in range(repeats)
        for t in range(steps)
    ]
    names = "perturbation repeat method index start_step end_step value".split()
    return pd.DataFrame(rows, columns=names)


def test_the_error_is_that_of_a_simulation_whose_truth_is_known() -> None:
    # A slope of 0.2 a step under independent noise of deviation 1: at W the variance is 1/W, and
    # a window's mean is off by the slope, whose square has the mean slope^2 (W^2 - 1) / 12.
    slope, steps, repeats = 0.2, 120, 400
    truth = slope * np.arange(steps)
    noise = np.random.default_rng(0).standard_normal((repeats, steps))
    found = sharing_errors(table_of(truth + noise), draws=200).set_index("width")
    for width in (1, 2, 10, 20):
        expected = slope**2 * (width**2 - 1) / 12
        row = found.loc[width]
        assert row["variance"] == pytest.approx(1 / width, rel=0.1)
        assert row["bias"] == pytest.approx(expected, rel=0.1, abs=5e-3)
        assert row["error"] == pytest.approx(row["variance"] + row["bias"])
        assert row["low"] <= row["error"] <= row["high"]
        # Directly: windows' means beside the truth that they stand for.
        shared = (truth + noise).reshape(repeats, -1, width).mean(axis=2).repeat(width, axis=1)
        direct = ((shared - truth) ** 2).mean() / noise.var()
        assert row["error"] == pytest.approx(direct, rel=0.1)
    assert abs(found["correlation"].iloc[0]) < 0.02
    assert (found["bound"] >= found["error"] - 0.02).all()


def test_noise_of_few_repeats_is_not_taken_for_bias() -> None:
    # Nothing but noise: of eight repeats, their mean's own noise would look like a bias of 1/8.
    noise = np.random.default_rng(2).standard_normal((8, 400))
    row = sharing_errors(table_of(noise)).set_index("width").loc[40]
    assert abs(row["bias"]) < 0.02
    assert row["low"] < 1 / 40 < row["high"]


def test_a_single_repeat_has_no_error() -> None:
    assert sharing_errors(table_of(np.ones((1, 8)))).empty


def test_two_repeats_have_no_interval() -> None:
    found = sharing_errors(table_of(np.array([[0.0, 1.0], [1.0, 0.0]])))
    assert found["width"].tolist() == [1]
    assert math.isnan(found["low"].iloc[0])


def test_of_the_record_sharing_wins_against_noise_of_training_batches_alone() -> None:
    found = sharing_errors(read_hypergradients(RECORD)).set_index(["perturbation", "width"])
    at_40 = {name: found.loc[(name, 40)] for name in found.index.get_level_values(0).unique()}
    errors = {name: round(float(row["error"]), 3) for name, row in at_40.items()}
    assert errors == {
        "weights": 7.583,
        "learning_rate": 14.841,
        "train": 0.155,
        "validation": 1.207,
        "all": 0.251,
    }
    assert at_40["train"]["high"] < 1
    assert at_40["all"]["high"] < 1
    assert at_40["validation"]["low"] < 1 < at_40["validation"]["high"]
    assert at_40["weights"]["low"] > 1


def test_a_panel_without_two_repeats_says_so(tmp_path: Path) -> None:
    run = write(tmp_path / "run", noisy(repeats=1))
    figure, table = draw(read_run(run))
    assert table.empty
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "needs two finite repeats" in texts
    assert draw_files("fig2_mse", run)[0].name == "fig2_mse.png"
