"""Searches as a user meets them: what is shown, resumed, grown, refused."""

import json
from pathlib import Path

import pandas as pd
import pytest
from commands import Call, only_run
from small import SMALL, assert_same


def test_a_search_from_the_command_line_grows_and_keeps_what_it_has(
    call: Call, tmp_path: Path
) -> None:
    answer = call("baselines", "digits", *SMALL, f"outputs={tmp_path}")
    assert answer.code == 0, answer.err
    run = only_run(tmp_path)
    assert "best 5 settings" in answer.out
    assert "8 trials, " in answer.out
    assert "hand-tuned (best) with multistep" in answer.out
    assert f"fig5: {run / 'figures' / 'fig5.png'}" in answer.out
    assert f"run: {run}" in answer.out.splitlines()
    records = {path: path.stat().st_mtime_ns for path in (run / "trials").glob("seed*")}
    again = call("baselines", "--resume", run)
    assert again.code == 0
    assert "is finished already" in again.err
    grown = call("baselines", "digits", "repeats=3", "--jobs", "1", "--resume", run)
    assert grown.code == 0, grown.err
    assert "12 trials, " in grown.out
    assert {path: path.stat().st_mtime_ns for path in records} == records
    fresh = call("baselines", "digits", *SMALL, "repeats=3", f"outputs={tmp_path / 'fresh'}")
    assert fresh.code == 0, fresh.err
    assert_same(run, only_run(tmp_path / "fresh"))
    listed = call("runs", "--outputs", tmp_path)
    assert "hand-tuned" in listed.out


def test_a_search_under_another_name_grows_and_is_of_its_column(call: Call, tmp_path: Path) -> None:
    few = ("search.grid.factor=[0.1]", "search.grid.learning_rate=[0.1]", "repeats=1", "name=foo")
    answer = call("baselines", "digits", *SMALL, *few, f"outputs={tmp_path}")
    assert answer.code == 0, answer.err
    run = only_run(tmp_path)
    grown = call("baselines", "digits", "repeats=2", "--resume", run)
    assert grown.code == 0, grown.err
    assert len(pd.read_csv(run / "trials.csv")) == 2
    assert json.loads((run / "summary.json").read_text())["settings"]["table_column"] == "digits"
    shown = call("table", run, "--format", "csv")
    assert "grid,digits," in shown.out


def test_a_search_grows_whatever_auto_became(call: Call, tmp_path: Path) -> None:
    few = ("search.grid.factor=[0.1]", "search.grid.learning_rate=[0.1]", "repeats=1")
    answer = call("baselines", "digits", *SMALL, *few, "threads=auto", f"outputs={tmp_path}")
    assert answer.code == 0, answer.err
    run = only_run(tmp_path)
    assert "threads: '1'" in (run / ".hydra" / "config.yaml").read_text()
    grown = call("baselines", "digits", "repeats=2", "--resume", run)
    assert grown.code == 0, grown.err
    assert len(pd.read_csv(run / "trials.csv")) == 2
    other = call("baselines", "digits", "repeats=3", "threads=2", "--resume", run)
    assert (other.code, "can change repeats, budget" in other.err) == (2, True)


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("epochs=3", "can change repeats, budget"),
        ("search=random", "can change repeats, budget"),
        ("baseline.milestones=[0.5]", "can change repeats, budget"),
        ("search.grid.momenta=[0.1]", "use learning_rate"),
    ],
)
def test_what_a_trial_comes_to_cannot_be_changed_afterwards(
    call: Call, tmp_path: Path, override: str, remedy: str
) -> None:
    few = ("search.grid.factor=[0.1]", "search.grid.learning_rate=[0.1]", "repeats=1")
    assert call("baselines", "digits", *SMALL, *few, f"outputs={tmp_path}").code == 0
    run = only_run(tmp_path)
    before = (run / ".hydra" / "config.yaml").read_text()
    answer = call("baselines", "--resume", run, override)
    assert answer.code == 2
    assert remedy in answer.err
    assert (run / ".hydra" / "config.yaml").read_text() == before
    wrong = call("baselines", "mnist", "--resume", run)
    assert (wrong.code, "is a run of baselines/digits" in wrong.err) == (2, True)


@pytest.mark.parametrize("search", ["random", "hd"])
def test_the_other_searches_from_the_command_line(call: Call, tmp_path: Path, search: str) -> None:
    options = ("--search", search, "search.trials=3")
    answer = call("baselines", "digits", *SMALL, *options, f"outputs={tmp_path}")
    assert answer.code == 0, answer.err
    run = only_run(tmp_path)
    assert len(pd.read_csv(run / "trials.csv")) == 6
    assert (run / "figures" / "fig5.png").exists() == (search == "random")
    titles = {"random": "random search", "hd": "hypergradient descent"}
    assert f"{titles[search]}: " in answer.out
    drawn = call("plot", "--outputs", tmp_path)
    assert drawn.code == (0 if search == "random" else 1), drawn.err


def test_what_a_search_costs_is_shown(call: Call) -> None:
    grid = call("baselines", "digits", *SMALL, "--dry-run")
    assert grid.code == 0, grid.err
    # 4 settings x 2 seeds of 2 epochs of 380 images in minibatches of 32
    assert "176" in grid.out
    assert "training alone keeps no tangents" in grid.out
    timed = call("baselines", "digits", *SMALL, "--search", "random", "budget=2h", "--dry-run")
    assert timed.code == 0, timed.err
    assert "a seed ends when 2h are spent" in timed.out
