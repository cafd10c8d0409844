"""Table 1 as a run made of runs."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from commands import Call, only_run

from hypergrad.data import DataError
from hypergrad.drivers.inner_optimizer import columns_at
from hypergrad.drivers.members import Member, compose_member

TINY = (
    "scale=smoke",
    "data.image_size=null",
    "model=mlp",
    "model.options.hidden=8",
    "hyperparameters.learning_rate.count=3",
    "search.grid.learning_rate=[0.05,0.4]",
    "search.grid.factor=[0.2]",
    "search.grid.momentum=[0.9]",
    "search.grid.weight_decay=[5e-4]",
    "search.ensemble=1",
)


def members(*overrides: str) -> dict[str, Member]:
    return {member.name: member for member in compose_member("", "table1", overrides).members}


def test_a_cell_is_a_run_of_its_own_a_seed_each_but_for_the_grid() -> None:
    found = members()
    assert len(found) == 3 * (3 * 3 + 1)
    assert list(found)[:5] == [
        "mnist_grid", "svhn_grid", "cifar10_grid", "mnist_random_seed0", "mnist_random_seed1",
    ]  # fmt: skip
    for name, member in found.items():
        config = member.config
        column, row = name.split("_")[:2]
        assert config.table_column == column == config.data.name
        assert config.search.kind == row
        assert config.driver == ("learn" if row == "ours" else "search")
        assert config.budget == (None if row == "grid" else "20h")
        assert config.seeds == ([0, 1, 2] if row == "grid" else [int(name[-1])])
        assert not config.test_curves
        assert columns_at(config, 1000) == [7, 1, 1]
        assert config.model.name == ("wrn" if column == "cifar10" else "lenet")
        assert config.baseline.schedule == ("multistep" if column == "cifar10" else "cosine")
    ours = found["mnist_ours_seed0"].config
    assert (ours.hd.enabled, ours.baseline.enabled, ours.outer.tolerance) == (False, False, 0)
    # nothing but the budget ends them
    assert ours.outer.steps == 1000
    assert found["svhn_random_seed1"].config.search.trials is None
    assert found["svhn_hd_seed1"].config.search.trials is None


def test_what_is_typed_reaches_every_cell_and_wins() -> None:
    found = members(
        "table.rows=[ours,grid]", "table.columns=[digits]", "repeats=1", "seed=4",
        "epochs=3", "outer.steps=7", "budget=5trials", "jobs=2",
    )  # fmt: skip
    assert list(found) == ["digits_grid", "digits_ours_seed4"]
    grid, ours = (member.config for member in found.values())
    assert (ours.epochs, ours.outer.steps, ours.budget, ours.jobs) == (3, 7, "5trials", 1)
    assert (grid.epochs, grid.budget, grid.seeds) == (3, None, [4])
    mixed = members("table.rows=[hd]", "table.budgets.svhn=5h", "repeats=1")
    assert [member.config.budget for member in mixed.values()] == ["20h", "5h", "20h"]
    without = members("budget=null", "table.columns=[mnist]", "table.rows=[random]")
    assert without["mnist_random_seed0"].config.search.trials == 100


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("table.columns=[imagenet]", "no imagenet; use some of cifar10, digits, mnist, svhn"),
        ("table.rows=[best]", "use one of grid, random, hd, ours"),
        ("table.rows=[]", "name some, each once"),
        ("table.rows=[ours,ours]", "name some, each once"),
        ("search=random", r"choose rows, as in table.rows=\[ours,random\]"),
        ("budget=20", "is no budget"),
        ("table.budgets.mnist=soon", "table.budgets.mnist=soon: 'soon' is no budget"),
    ],
)
def test_a_table_that_cannot_be(override: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        members(override)


@pytest.mark.slow
def test_the_table_is_filled_cell_by_cell_and_a_lost_cell_alone_is_done_again(
    call: Call, tmp_path: Path
) -> None:
    answer = call("run", "table1", *TINY, "budget=3trials", f"outputs={tmp_path}", "jobs=2")
    assert answer.code == 0, answer.err
    run = only_run(tmp_path)
    cells = pd.read_csv(run / "figures" / "table1.csv")
    assert list(cells["row"]) == ["random", "hd", "ours", "grid"]
    assert set(cells["n"]) == {2}
    assert set(cells["trials"][:3]) == {3}  # the budget of every method
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["headline"].startswith("digits: random ")
    assert "Ours (learned schedule)" in answer.out
    for name in summary["members"]:
        assert json.loads((run / name / "summary.json").read_text())["status"] == "finished"
    # the test set is looked at once: after the final training
    inner = pd.read_csv(run / "digits_ours_seed0" / "inner.csv")
    assert inner[inner["method"] == "ours"]["test_accuracy"].isna().all()
    assert inner["test_accuracy"].notna().sum() == 1
    for name in ("random_seed0", "hd_seed1", "grid"):
        assert pd.read_csv(run / f"digits_{name}" / "trials.csv")["test_accuracy"].isna().all()
    before = (run / "digits_grid" / "provenance.json").stat().st_mtime_ns
    shutil.rmtree(run / "digits_hd_seed0")
    again = call("run", "--resume", run)
    assert again.code == 0, again.err
    pd.testing.assert_frame_equal(
        pd.read_csv(run / "figures" / "table1.csv").drop(columns="seconds"),
        cells.drop(columns="seconds"),
    )
    assert (run / "digits_grid" / "provenance.json").stat().st_mtime_ns == before
    for form in ("terminal", "markdown", "csv", "latex"):
        shown = call("table", run, "--format", form)
        assert shown.code == 0, shown.err
        assert "92.00" in shown.out or form == "csv" or "±" in shown.out or r"\pm" in shown.out
    single = call("table", run / "digits_ours_seed0", "--format", "csv")
    assert single.code == 0, single.err
    assert single.out.splitlines()[3].startswith("ours,digits,")


def test_a_column_without_data_is_named_and_the_rest_is_filled(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hypergrad.drivers import first_look, multirun

    original = multirun.prepare

    def prepare(config, **options):  # noqa: ANN001, ANN003, ANN202
        if config.table_column == "svhn":
            raise DataError("svhn cannot be had here")
        return original(config, **options)

    monkeypatch.setattr(first_look, "prepare", prepare)
    monkeypatch.setattr(multirun, "prepare", prepare)
    rows = ("table.rows=[random]", "table.columns=[digits,svhn]", "budget=2trials", "repeats=1")
    answer = call("run", "table1", *TINY, *rows, f"outputs={tmp_path}")
    assert answer.code == 3, answer.err
    assert "table1: without svhn: svhn cannot be had here" in answer.err.splitlines()[-1]
    cells = pd.read_csv(only_run(tmp_path) / "figures" / "table1.csv").set_index("column")
    found = cells[cells["row"] == "random"]
    assert found.loc["digits", "status"] == "finished"
    assert found.loc["svhn", "status"] == "missing"
    assert pd.isna(found.loc["svhn", "mean"])


def test_what_a_table_costs_is_shown_cell_by_cell(call: Call) -> None:
    answer = call("run", "table1", *TINY, "--dry-run")
    assert answer.code == 0, answer.err
    for name in ("digits_random_seed0", "digits_hd_seed0", "digits_ours_seed0", "digits_grid"):
        assert f"\n{name} " in answer.out
    assert "seed1" not in answer.out
    assert "of seed 0 alone" in answer.out


def test_no_table_yet(call: Call, tmp_path: Path) -> None:
    answer = call("table", "--outputs", tmp_path)
    assert answer.code == 2
    assert "start one with `hypergrad run table1`" in answer.err
