import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hypergrad.figures.run_data import read_run, status_mark

MakeRun = Callable[..., Path]


def test_a_finished_run_is_read_whole(make_run: MakeRun) -> None:
    record = read_run(make_run(seeds=2, epochs=4))
    assert record.finished
    assert record.experiment == "fig1"
    assert record.seeds == (0, 1)
    assert record.best_outer_step == {0: 8, 1: 8}
    assert record.settings["data"] == "cifar10"
    assert len(record.outer) == 2 * 10 * 7
    assert len(record.hd) == 2 * 4 * 186
    assert status_mark(record) == ""


def test_numbers_are_read_to_the_last_bit(make_run: MakeRun) -> None:
    run = make_run(epochs=2, logged_outer_steps=1)
    header = (run / "outer.csv").read_text().splitlines()[0]
    exact = [0.1 + 0.2, 1 / 3, 5e-324, -1.7976931348623157e308]
    rows = [f"0,{k},momentum,0,0.0,1.0,{v!r},{v!r},0.1,1,9\n" for k, v in enumerate(exact)]
    (run / "outer.csv").write_text(header + "\n" + "".join(rows))
    assert read_run(run).outer["value"].tolist() == exact


@pytest.mark.parametrize("cut", [1, 3, 25])
def test_a_half_written_last_line_is_left_out(make_run: MakeRun, cut: int) -> None:
    run = make_run(epochs=2, status="running")
    whole = read_run(run).outer
    path = run / "outer.csv"
    # One character less than whole still parses: only the missing newline tells.
    path.write_bytes(path.read_bytes()[:-cut])
    shorter = read_run(run).outer
    assert len(shorter) == len(whole) - 1
    assert shorter["value"].tolist() == whole["value"].tolist()[:-1]


def test_missing_files_are_empty_tables(tmp_path: Path) -> None:
    record = read_run(tmp_path)
    assert (len(record.inner), len(record.outer), len(record.hd)) == (0, 0, 0)
    assert "value" in record.outer.columns
    assert status_mark(record) == "UNFINISHED RUN (no summary yet)"


def test_empty_fields_are_nan(make_run: MakeRun) -> None:
    run = make_run(epochs=2, logged_outer_steps=1)
    path = run / "inner.csv"
    lines = path.read_text().splitlines()
    fields = lines[1].split(",")
    fields[5], fields[9] = "nan", ""
    path.write_text("\n".join([lines[0], ",".join(fields)]) + "\n")
    inner = read_run(run).inner
    assert np.isnan(inner["train_loss"][0])
    assert np.isnan(inner["test_accuracy"][0])


def test_the_mark_of_an_unfinished_run(make_run: MakeRun) -> None:
    record = read_run(make_run(epochs=2, status="running", fraction=0.43))
    assert status_mark(record) == "UNFINISHED RUN (running, 43 %)"


def test_the_best_outer_step_of_an_unfinished_run_comes_from_its_schedules(
    make_run: MakeRun,
) -> None:
    run = make_run(epochs=2, status="interrupted")
    assert read_run(run).best_outer_step == {}
    schedules = {"schedules": [{"seed": 0, "outer_step": 3, "validation_accuracy": 0.5}]}
    (run / "schedule.json").write_text(json.dumps(schedules))
    assert read_run(run).best_outer_step == {0: 3}


def test_a_result_without_accuracy_is_nan(make_run: MakeRun) -> None:
    run = make_run(epochs=2)
    path = run / "summary.json"
    summary = json.loads(path.read_text())
    summary["results"][0].update(test_accuracy=None, diverged=True)
    path.write_text(json.dumps(summary))
    first = read_run(run).results[0]
    assert math.isnan(first.test_accuracy)
    assert first.diverged


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("summary.json", '{"status": ', r"summary.json is damaged .*resume the run"),
        ("outer.csv", "seed,kind\n0,momentum\n", r"outer.csv lacks the column outer_step.*index"),
        ("hd.csv", "seed,step,epoch,learning_rate,momentum,weight_decay\n0,1\n", "is damaged"),
        (
            "hd.csv",
            "seed,step,epoch,learning_rate,momentum,weight_decay\n0,1,x,0,0,0\n",
            "could not convert string to float: 'x'",
        ),
        ("summary.json", '{"results": [{"method": "sgd"}]}', "None stands where a whole number"),
    ],
)
def test_damaged_files_are_named(make_run: MakeRun, file: str, text: str, message: str) -> None:
    run = make_run(epochs=2)
    (run / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_run(run)


def test_a_missing_run_says_how_to_find_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run directory at .*nowhere: `hypergrad runs`"):
        read_run(tmp_path / "nowhere")
