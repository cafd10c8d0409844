import json
import math
import statistics
from pathlib import Path

import pandas as pd
import pytest
from table1_runs import write_cell, write_column, write_table

from hypergrad.figures.table1_data import Cell, cells_of, read_cells


def read(*paths: Path) -> dict[tuple[str, str], Cell]:
    return {(cell.row, cell.column): cell for cell in cells_of(read_cells(paths))}


def test_a_table_run_is_read_cell_by_cell(tmp_path: Path) -> None:
    table = read_cells([write_column(write_table(tmp_path / "run"))])
    assert list(table.columns) == list(Cell._fields)
    assert table["row"].tolist() == ["random", "hd", "ours", "grid"]
    assert table["status"].tolist() == ["finished"] * 4
    assert table["reason"].tolist() == [""] * 4
    assert table["n"].tolist() == [3] * 4
    assert table["seeds"].tolist() == ["0 1 2"] * 4
    assert table["mean"].tolist()[2] == pytest.approx(0.9849, abs=1e-15)
    assert table["std"].tolist()[2] == pytest.approx(0.0028, abs=1e-15)
    assert table["diverged"].tolist() == [1, 0, 0, 0]
    assert table["seconds"].tolist() == [240, 250, 245, 7200]
    assert table["products"].tolist()[:3] == [400_000] * 3
    assert math.isnan(table["products"].tolist()[3])  # the grid's run does not say
    assert table["budget"].tolist() == ["4min"] * 4
    assert table["epochs"].tolist() == ["2"] * 4


def test_rows_and_columns_stand_as_in_the_paper(tmp_path: Path) -> None:
    runs = [
        write_cell(tmp_path / "a", "grid", {0: 0.5}, "flowers"),
        write_cell(tmp_path / "b", "hd", {0: 0.5}, "digits"),
        write_cell(tmp_path / "c", "ours", {0: 0.5}, "cifar10"),
        write_cell(tmp_path / "d", "random", {0: 0.5}, "mnist"),
    ]
    cells = cells_of(read_cells(runs))
    assert [cell.column_title for cell in cells[:4]] == ["MNIST", "CIFAR-10", "Digits", "flowers"]
    assert [cell.row_title for cell in cells[::4]] == [
        "Random search",
        "Hypergradient descent",
        "Ours (learned schedule)",
        "Hand-tuned (best)",
    ]
    pd.testing.assert_frame_equal(read_cells(runs[::-1]), read_cells(runs))


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    cell = read(write_cell(tmp_path / "run", "ours", {4: 0.97}))["ours", "mnist"]
    assert (cell.n, cell.mean, cell.seeds, cell.status) == (1, 0.97, "4", "finished")
    assert math.isnan(cell.std)
    assert math.isnan(cell.p_value)


def test_equal_accuracies_have_a_deviation_of_zero(tmp_path: Path) -> None:
    run = write_cell(tmp_path / "run", "hd", dict.fromkeys(range(3), 0.1 + 0.2))
    assert read(run)["hd", "mnist"].std == 0


def test_different_seeds_of_a_cell_are_put_together(tmp_path: Path) -> None:
    runs = [
        write_cell(tmp_path / "late", "hd", {2: 0.95}, spent={"seconds": 300.0}),
        write_cell(tmp_path / "early", "hd", {0: 0.97, 1: 0.96}, spent={"seconds": 240.0}),
    ]
    cell = read(*runs)["hd", "mnist"]
    assert (cell.n, cell.seeds) == (3, "0 1 2")
    assert cell.mean == statistics.mean([0.97, 0.96, 0.95])
    assert cell.seconds == 260
    assert math.isnan(cell.trials)


def test_the_same_seed_twice_is_refused_by_name(tmp_path: Path) -> None:
    run = write_column(write_table(tmp_path / "table"))
    again = write_cell(tmp_path / "again", "ours", {1: 0.99})
    both = f"{run}/mnist_ours_seed1 and {again} both hold seed 1 of ours on mnist"
    with pytest.raises(ValueError, match=both):
        read_cells([run, again])


@pytest.mark.parametrize("key", ["model", "scale", "epochs", "budget"])
def test_seeds_under_different_settings_are_refused(tmp_path: Path, key: str) -> None:
    runs = [
        write_cell(tmp_path / "one", "hd", {0: 0.9}),
        write_cell(tmp_path / "two", "hd", {1: 0.9}, **{key: "50"}),
    ]
    with pytest.raises(ValueError, match=rf"one and .*two hold hd on mnist with {key} .* and '50'"):
        read_cells(runs)


def test_missing_cells_say_why(tmp_path: Path) -> None:
    run = write_table(
        tmp_path / "run", "random hd ours", "mnist svhn", "0", {"svhn": "no SVHN under here"}
    )
    write_cell(run / "mnist_random_seed0", "random", {0: 0.9}, status="running", fraction=0.4)
    write_cell(run / "mnist_hd_seed0", "hd", {}, status="failed")
    cells = read(run)
    reasons = {key: cell.reason for key, cell in cells.items()}
    assert reasons == {
        ("random", "mnist"): "not finished (running, 40 %)",
        ("random", "svhn"): "no SVHN under here",
        ("hd", "mnist"): "failed",
        ("hd", "svhn"): "no SVHN under here",
        ("ours", "mnist"): "not started",
        ("ours", "svhn"): "no SVHN under here",
        ("grid", "mnist"): "not asked for",
        ("grid", "svhn"): "not asked for",
    }
    for cell in cells.values():
        assert (cell.status, cell.n, cell.seeds, cell.best) == ("missing", 0, "", False)
        assert math.isnan(cell.mean)
        assert math.isnan(cell.seconds)


def test_a_cell_without_some_of_its_seeds_is_partial(tmp_path: Path) -> None:
    run = write_table(tmp_path / "run", "ours grid", seeds="0 1 2 3")
    write_cell(run / "mnist_ours_seed1", "ours", {1: 0.9})
    write_cell(run / "mnist_ours_seed2", "ours", {}, status="failed")
    write_cell(run / "mnist_grid", "grid", {0: 0.8, 1: 0.7, 2: None, 3: 0.7})
    cells = read(run)
    ours, grid = cells["ours", "mnist"], cells["grid", "mnist"]
    assert (ours.status, ours.n) == ("partial", 1)
    assert ours.reason == "seeds 0, 3: not started; seed 2: failed"
    assert (grid.status, grid.n, grid.seeds) == ("partial", 3, "0 1 3")
    assert grid.reason == "seed 2: no test accuracy of grid"


def test_a_seed_that_another_run_holds_is_not_missing(tmp_path: Path) -> None:
    run = write_table(tmp_path / "run", "ours", seeds="0")
    other = write_cell(tmp_path / "other", "ours", {0: 0.9})
    cell = read(run, other)["ours", "mnist"]
    assert (cell.status, cell.n, cell.reason) == ("finished", 1, "")


def test_an_unfinished_run_beside_a_finished_one_is_named(tmp_path: Path) -> None:
    done = write_cell(tmp_path / "done", "ours", {0: 0.9})
    open_ = write_cell(tmp_path / "open", "ours", {1: 0.9}, status="interrupted", fraction=0.5)
    cell = read(done, open_)["ours", "mnist"]
    assert (cell.n, cell.status) == (1, "partial")
    assert cell.reason == "a run: not finished (interrupted, 50 %)"


def test_a_data_set_without_a_run_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    cell = write_cell(tmp_path / "cell", "ours", {0: 0.9})
    table = write_table(tmp_path / "table", "hd", "cifar10", missing={"svhn": "not asked for"})
    assert {column for _, column in read(cell)} == {"mnist"}
    assert {column for _, column in read(cell, table)} == {"mnist", "cifar10"}


def test_without_a_run_or_a_cell_there_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no cell of Table 1 in no run: give a run of table1"):
        read_cells([])
    with pytest.raises(ValueError, match="no run directory at .*nowhere: `hypergrad runs`"):
        read_cells([tmp_path / "nowhere"])
    empty = write_table(tmp_path / "empty", rows="")
    with pytest.raises(ValueError, match=f"no cell of Table 1 in {empty}"):
        read_cells([empty])


def test_other_runs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "fig1").mkdir()
    text = json.dumps({"experiment": "fig1", "settings": {"data": "mnist"}})
    (tmp_path / "fig1" / "summary.json").write_text(text)
    with pytest.raises(ValueError, match="fig1 is no run of a cell of Table 1 \\(search ''"):
        read_cells([tmp_path / "fig1"])
    with pytest.raises(ValueError, match="asks for the row bohb: Table 1 has random, hd"):
        read_cells([write_table(tmp_path / "table", rows="ours bohb")])
    damaged = write_cell(tmp_path / "damaged", "ours", {0: 0.9})
    (damaged / "summary.json").write_text("{")
    with pytest.raises(ValueError, match="damaged/summary.json is damaged"):
        read_cells([damaged])
