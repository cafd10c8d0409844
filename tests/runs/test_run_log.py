import hashlib
import json
import math
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.run_log import CsvLog, RunLog, columns

NAMES = ("learning_rate", "beta1")
FILES = columns(NAMES)

COLUMNS = ("step", "loss", "note")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[CsvLog]:
    log = CsvLog(tmp_path / "inner.csv", COLUMNS)
    yield log
    log.close()


def row(step: int, loss: float | None = 0.5, note: str = "") -> dict[str, int | float | str | None]:
    return {"note": note, "step": step, "loss": loss}


def test_text_is_exactly_this(log: CsvLog) -> None:
    assert not log.path.exists()
    log.append([row(0, 0.1), row(1, None, 'a, "b"')])
    log.append([])
    log.append(iter([row(2, math.nan), row(3, -math.inf), row(4, np.float64(1e-5))]))
    assert log.path.read_text() == (
        'step,loss,note\n0,0.1,\n1,,"a, ""b"""\n2,nan,\n3,-inf,\n4,1e-05,\n'
    )


def test_floats_round_trip_exactly_through_pandas(tmp_path: Path) -> None:
    draws = random.Random(0)
    bits = [draws.getrandbits(64).to_bytes(8, "little") for _ in range(2000)]
    values = [struct.unpack("<d", pattern)[0] for pattern in bits]
    values = [value for value in values if not math.isnan(value)]
    values += [0.0, -0.0, math.inf, -math.inf, 5e-324, 0.1 + 0.2, 1.7976931348623157e308]
    log = CsvLog(tmp_path / "x.csv", ("x",))
    log.append({"x": value} for value in values)
    log.close()
    # From pandas 3.1 every conversion is exact, and the argument is deprecated.
    exact = tuple(int(number) for number in pd.__version__.split(".")[:2]) >= (3, 1)
    precision = None if exact else "round_trip"
    read = pd.read_csv(tmp_path / "x.csv", float_precision=precision)["x"].to_numpy()
    assert read.dtype == np.float64
    assert read.tobytes() == np.array(values).tobytes()


def test_truncation_undoes_rows_and_half_a_row(log: CsvLog) -> None:
    log.append([row(0), row(1)])
    position = log.sync()
    assert position == log.path.stat().st_size
    log.append([row(2)])
    with log.path.open("ab") as file:
        file.write(b"3,0.")  # the writer was killed here
    resumed = CsvLog(log.path, COLUMNS)
    resumed.truncate(position)
    resumed.append([row(2, 0.25)])
    assert resumed.sync() == log.path.stat().st_size
    resumed.close()
    assert log.path.read_text() == "step,loss,note\n0,0.5,\n1,0.5,\n2,0.25,\n"


def test_half_a_row_is_not_added_to(log: CsvLog) -> None:
    log.append([row(0)])
    log.close()
    with log.path.open("ab") as file:
        file.write(b"1,0.")
    with pytest.raises(ValueError, match="middle of a row"):
        log.append([row(1)])
    assert log.path.read_text() == "step,loss,note\n0,0.5,\n1,0."


@pytest.mark.parametrize("damage", ["missing", "short", "shifted"])
def test_truncation_of_a_damaged_file_is_refused(log: CsvLog, damage: str) -> None:
    log.append([row(0)])
    position = log.sync()
    if damage == "missing":
        log.path.unlink()
    elif damage == "short":
        log.path.write_bytes(log.path.read_bytes()[:-1])
    else:
        log.path.write_bytes(log.path.read_bytes()[:-1] + b"5,\n")
    with pytest.raises(ValueError, match=r"inner\.csv.*run directory is damaged"):
        log.truncate(position)


def test_position_zero_starts_over(log: CsvLog) -> None:
    log.truncate(0)
    assert not log.path.exists()
    log.append([row(0)])
    log.truncate(0)
    assert log.path.read_bytes() == b""
    log.append([row(7)])
    assert log.path.read_text() == "step,loss,note\n7,0.5,\n"


def test_half_a_header_is_written_again(log: CsvLog) -> None:
    log.path.write_text("step,lo")
    again = CsvLog(log.path, COLUMNS)
    assert again.sync() == len("step,loss,note\n")
    again.close()
    assert log.path.read_text() == "step,loss,note\n"


def test_reopening_appends_and_checks_the_header(log: CsvLog) -> None:
    log.append([row(0)])
    log.close()
    again = CsvLog(log.path, COLUMNS)
    again.append([row(1)])
    again.close()
    assert log.path.read_text() == "step,loss,note\n0,0.5,\n1,0.5,\n"
    with pytest.raises(ValueError, match="start a new run"):
        CsvLog(log.path, ("step", "loss", "extra"))


def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(log: CsvLog) -> None:
    log.append([row(0)])
    with pytest.raises(ValueError, match=r"lacks the columns \['note'\].* columns \['nte'\]"):
        log.append([row(1), {"step": 2, "loss": 0.0, "nte": ""}])
    with pytest.raises(ValueError, match="column 'loss' holds"):
        log.append([{"step": 2, "loss": np.float32(1), "note": ""}])  # pyright: ignore
    with pytest.raises(ValueError, match="repeat a name"):
        CsvLog(log.path, ("step", "step"))
    assert log.path.read_text() == "step,loss,note\n0,0.5,\n"


def test_loading_cuts_the_files_back_to_the_checkpoint(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "fig1")
    first = dict.fromkeys(FILES["inner"], 1)
    log = RunLog(run, NAMES)
    log.append("inner", [first])
    log.save({"theta": torch.ones(2)}, {"step": 1})
    log.append("inner", [first | {"seed": 2}])
    log.append("outer", [dict.fromkeys(FILES["outer"], 3)])
    log.close()
    again = RunLog(run, NAMES)
    checkpoint, remarks = again.load()
    assert checkpoint is not None
    assert checkpoint.state["step"] == 1
    assert remarks == []
    assert pd.read_csv(run.path / "inner.csv")["seed"].tolist() == [1]
    assert pd.read_csv(run.path / "outer.csv").empty


def test_loading_without_a_checkpoint_empties_the_files(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "fig1")
    log = RunLog(run, NAMES)
    log.append("hd", [dict.fromkeys(FILES["hd"], 1)])
    assert log.load() == (None, [])
    assert (run.path / "hd.csv").read_text() == ""


def saved_twice(tmp_path: Path) -> tuple[RunDirectory, RunLog]:
    run = RunDirectory.create(tmp_path, "fig1")
    log = RunLog(run, NAMES, {"fixed": "a", "rounding": "b"})
    for step in (1, 2):
        log.append("inner", [dict.fromkeys(FILES["inner"], step)])
        log.save({"theta": torch.ones(2)}, {"step": step})
    log.append("outer", [dict.fromkeys(FILES["outer"], 3)])
    log.close()
    return run, RunLog(run, NAMES, {"fixed": "a", "rounding": "c"})


def test_rows_that_have_changed_since_a_checkpoint_are_not_gone_on_with(tmp_path: Path) -> None:
    run, again = saved_twice(tmp_path)
    whole = (run.path / "inner.csv").read_bytes()
    for place, step in ((len(whole) - 2, 1), (whole.index(b"\n") + 1, None)):
        changed = bytearray(whole)
        assert changed[place : place + 1] in (b"1", b"2")
        changed[place : place + 1] = b"7"
        (run.path / "inner.csv").write_bytes(changed)
        if step is None:
            with pytest.raises(ValueError, match=r"inner\.csv is not what it was"):
                again.look()
            continue
        checkpoint, remarks = again.look()
        assert checkpoint is not None
        assert checkpoint.state["step"] == step
        assert "inner.csv is not what it was" in remarks[0]
        assert (run.path / "inner.csv").read_bytes() == changed  # a look changes nothing
    (run.path / "inner.csv").write_bytes(whole)
    assert again.load()[1] == []


def test_an_older_checkpoint_says_how_many_rows_are_repeated(tmp_path: Path) -> None:
    run, again = saved_twice(tmp_path)
    newest = run.path / "checkpoints" / "00000002.safetensors"
    newest.write_bytes(b"")
    os.utime(run.path / "checkpoints" / "00000001.json", (1000, 1000))
    os.utime(run.path / "checkpoints" / "00000001.safetensors", (1000, 1000))
    os.utime(run.path / "checkpoints" / "00000002.json", (1090, 1090))
    os.utime(newest, (1090, 1090))
    checkpoint, remarks = again.load()
    assert checkpoint is not None
    assert checkpoint.state["step"] == 1
    assert remarks[0].startswith("passed over a damaged checkpoint: ")
    assert remarks[1] == (
        "an older one is used: 90 s of work (1 of inner.csv and 1 of outer.csv) are repeated"
    )
    newest.with_suffix(".json").unlink()  # cut off, as any kill may: no damage
    newest.write_bytes(b"")
    assert RunLog(run, NAMES, {"fixed": "a"}).load()[1] == []


@pytest.mark.parametrize("damage", ["no csv", "no ground", "other ground", "no safetensors"])
def test_a_checkpoint_that_lacks_something_is_passed_over_as_a_damaged_one(
    tmp_path: Path, damage: str
) -> None:
    run, again = saved_twice(tmp_path)
    path = run.path / "checkpoints" / "00000002.json"
    body = json.loads(path.read_text())["body"]
    if damage == "no csv":
        del body["state"]["csv"]
    elif damage == "no ground":
        del body["state"]["ground"]
    elif damage == "other ground":
        body["state"]["ground"]["fixed"] = "x"
    else:  # with the right checksum: it is safetensors that complains
        path.with_suffix(".safetensors").write_bytes(b"none")
        body["tensors"]["sha256"] = hashlib.sha256(b"none").hexdigest()
    text = json.dumps(body).encode()
    checksum = hashlib.sha256(text).hexdigest()
    path.write_text(json.dumps({"sha256": checksum, "body": body}))
    checkpoint, remarks = again.load()
    assert checkpoint is not None
    assert checkpoint.state["step"] == 1
    assert len(remarks) == 2
