"""The benchmark of shortcuts: what it measures is what it says, and it comes to its end."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.outer_steps import AGREEING, VARIANTS
from benchmarks.shortcuts import main
from benchmarks.shortcuts_report import agreement_of, reached, target_of


def test_it_learns_compares_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["data=digits", "data.image_size=28", "data.train_size=150", "data.test_size=50"]
    less = ["method.batch_size=16", "outer.steps=3", "repeats=1"]
    less += ["hyperparameters.learning_rate.count=2"]
    main([*small, *less, "--compared", "2", "--output", str(tmp_path)])
    learning = pd.read_csv(tmp_path / "learning.csv")
    assert (learning.groupby("variant").size() == 3).all()
    assert set(learning["variant"]) == set(VARIANTS)
    assert (learning.groupby("variant")["seconds"].diff().dropna() > 0).all()
    last = learning.groupby("variant").tail(1).set_index("variant")
    # 142 images make 8 minibatches an epoch; of `early` all three outer steps are short.
    assert last["gradients"]["full"] == 8 + 16 + 16
    assert last["gradients"]["early"] == 8 + 8 + 8
    agreement = pd.read_csv(tmp_path / "agreement.csv")
    found = agreement_of(agreement)
    assert list(found.index) == list(AGREEING)
    assert found["error"]["float64"] < 1e-3  # the same outer step, taken again
    assert found["error"]["other_order"] > found["error"]["float64"]
    assert (tmp_path / "shortcuts.png").stat().st_size > 10_000
    main(["--draw", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "bfloat16" in printed
    assert len(pd.read_csv(tmp_path / "learning.csv")) == len(learning)


def test_the_target_and_who_reached_it() -> None:
    learning = pd.DataFrame(
        [("full", 0, 0, 0.97), ("full", 0, 1, 0.98), ("full", 1, 0, 0.96), ("full", 1, 1, 0.982)]
        + [("half", 0, 0, 0.98), ("half", 0, 1, 0.97), ("half", 1, 0, 0.9), ("half", 1, 1, 0.95)],
        columns=["variant", "seed", "outer_step", "test_accuracy"],
    )
    target = target_of(learning)
    assert target == pytest.approx(0.981 - 0.002)
    there = reached(learning, target)
    steps = there[["variant", "seed", "outer_step"]].to_numpy().tolist()
    assert steps == [["full", 0, 1], ["full", 1, 1], ["half", 0, 0]]


def test_lost_and_zero_hypergradients_agree_with_nothing() -> None:
    agreement = pd.DataFrame(
        {
            "way": ["a"] * 4,
            "exact": [2.0, -1.0, 1.0, 4.0],
            "hypergradient": [1.0, 1.0, float("nan"), 4.0],
        }
    )
    found = agreement_of(agreement).loc["a"]
    assert found["signs"] == 0.5
    assert found["error"] == pytest.approx(1.25)  # between 0.5 and 2
