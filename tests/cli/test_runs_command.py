"""`hypergrad runs` as a user meets it."""

import csv
import io
import json
from pathlib import Path

import pytest
from commands import Call

from hypergrad.config.composition import compose
from hypergrad.runs.directory import RunDirectory

LONG = "ours 93.24 ± 0.31 % | HD 91.10 ± 0.52 % | SGD 90.02 ± 0.44 % (test accuracy, 3 seeds)"


def write(outputs: Path, name: str, overrides: list[str], **summary: object) -> Path:
    experiment = overrides[0]
    _, text = compose(experiment, overrides[1:])
    run = RunDirectory(outputs / experiment.replace("/", "_") / name)
    run.path.mkdir(parents=True)
    run.write_config(text, overrides[1:])
    run.write_summary({"status": "finished", "progress": {"fraction": 1.0}, **summary})
    run.write_json("provenance.json", {"wall_seconds": 754.0})
    return run.path


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    place = tmp_path / "runs"
    write(place, "2026-01-01_000000_aaaaaa", ["from_zero", "seed=1", "epochs=3"], headline=LONG)
    typed = ["baselines/mnist", "scale=smoke", "data=mnist", "repeats=3", "baseline.momentum=0.95"]
    failed = {"status": "failed", "message": "no luck [/path]", "progress": {"fraction": 0.25}}
    write(place, "2026-01-02_000000_bbbbbb", typed, **failed)
    write(place, "2026-01-03_000000_cccccc", ["from_zero", "data=mnist"], status="interrupted")
    return place


def test_a_table_holds_at_80_columns_and_cuts_nothing(call: Call, outputs: Path) -> None:
    answer = call("runs", "--outputs", outputs)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "from_zero/2026-01-01_000000_aaaaaa" in answer.out
    assert "baselines_mnist/2026-01-02_000000_bbbbbb" in answer.out
    left = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    right = " ".join(line.split("│")[2].strip() for line in lines if line.startswith("│"))
    assert left[:2] == ["from_zero/2026-01-01_000000_aaaaaa", "finished, 13 min"]
    assert "failed 25 %, 13 min" in left
    assert f"digits seed=1 epochs=3 {LONG}" in right
    assert "mnist, smoke scale scale=smoke data=mnist repeats=3" in right
    assert "no luck [/path]" in right


def test_what_a_program_reads(call: Call, outputs: Path) -> None:
    read = json.loads(call("runs", "--outputs", outputs, "--format", "json").out)
    assert [entry["status"] for entry in read] == ["finished", "failed", "interrupted"]
    assert read[0] == {
        "run": str(outputs / "from_zero/2026-01-01_000000_aaaaaa"),
        "experiment": "from_zero",
        "data": "digits",
        "scale": "full",
        "overrides": ["seed=1", "epochs=3"],
        "status": "finished",
        "fraction": 1.0,
        "seconds": 754.0,
        "headline": LONG,
    }
    assert (read[1]["experiment"], read[1]["scale"]) == ("baselines/mnist", "smoke")
    rows = list(
        csv.DictReader(io.StringIO(call("runs", "--outputs", outputs, "--format", "csv").out))
    )
    assert rows[0] == {**{k: str(v) for k, v in read[0].items()}, "overrides": "seed=1 epochs=3"}
    assert call("runs", "--outputs", outputs, "--format", "yaml").code == 2
    empty = call("runs", "--outputs", outputs / "none", "--format", "json")
    assert json.loads(empty.out) == []


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (["--last", "1"], "c"),
        (["--last", "9"], "abc"),
        (["--experiment", "from_zero"], "ac"),
        (["--data", "mnist"], "bc"),
        (["--scale", "smoke"], "b"),
        (["--status", "interrupted"], "c"),
        (["--data", "mnist", "--experiment", "from_zero", "--last", "1"], "c"),
        (["--data", "mnist", "--status", "finished"], ""),
    ],
)
def test_filters(call: Call, outputs: Path, typed: list[str], kept: str) -> None:
    read = json.loads(call("runs", "--outputs", outputs, "--format", "json", *typed).out)
    assert "".join(entry["run"][-1] for entry in read) == kept
    said = call("runs", "--outputs", outputs, *typed).out
    assert ("none of 3 runs" in said) == (not kept)


def test_a_multirun_took_what_its_members_took(call: Call, outputs: Path) -> None:
    run = RunDirectory(outputs / "from_zero/2026-01-03_000000_cccccc")
    (run.path / "provenance.json").unlink()
    for name, seconds in (("0_seed=0", 40.0), ("1_seed=1", 20.0)):
        run.member(name).write_json("provenance.json", {"wall_seconds": seconds})
    names = ["0_seed=0", "1_seed=1", "2_seed=2"]
    run.write_json("members.json", {"members": [{"name": name} for name in names]})
    form = ("--format", "json", "--last", "1")
    assert json.loads(call("runs", "--outputs", outputs, *form).out)[0]["seconds"] == 60.0
    run.write_json("members.json", {"members": [{"name": "../../elsewhere"}]})
    assert json.loads(call("runs", "--outputs", outputs, *form).out)[0]["status"] == "damaged"


def test_a_damaged_run_is_listed_as_that(call: Call, outputs: Path) -> None:
    run = outputs / "from_zero/2026-01-01_000000_aaaaaa"
    (run / "summary.json").write_text('{"status": "finished"')
    read = json.loads(call("runs", "--outputs", outputs, "--format", "json").out)
    assert (read[0]["status"], read[0]["data"]) == ("damaged", "digits")
    assert "summary.json is damaged" in read[0]["headline"]
    assert call("runs", "--outputs", outputs).code == 0
