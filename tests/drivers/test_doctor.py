"""Damage in run directories: a resume says it and gets over it, or refuses; doctor tells before."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest
from broken import IMPROVE, LEARN, SEARCH, STUDY, Broken, begun, broken_off
from commands import Answer, Call
from tiny import everything

from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.records import read_record, write_record


@pytest.fixture
def broken(call: Call, tmp_path: Path) -> Broken:
    """Broken off after two outer steps."""
    return broken_off(call, tmp_path / "outputs")


def told(run: Broken) -> tuple[int, str]:
    before = run.files()
    answer = run.call("doctor", run.path)
    assert run.files() == before  # it changes nothing
    return answer.code, answer.out


def resumed_nearby(run: Broken, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Go on from the folder beside the run: a long path is cut out of the middle of a line."""
    monkeypatch.chdir(run.path.parent)
    return run.call("run", "--resume", Path(run.path.name))


def other_digit(path: Path, after: bytes = b"0.") -> None:
    """Change a digit in the middle of a file."""
    data = bytearray(path.read_bytes())
    place = data.index(after, len(data) // 2) + len(after)
    data[place : place + 1] = b"1" if data[place : place + 1] != b"1" else b"2"
    path.write_bytes(data)


def test_a_sound_run_says_from_where_it_goes_on(broken: Broken, tmp_path: Path) -> None:
    code, out = told(broken)
    assert code == 0, out
    assert out.splitlines() == [
        "goes on from its checkpoint: repeat 1, ours, outer step 2",
        f"{broken.path}: sound",
    ]
    assert broken.call("run", "--resume", broken.path).code == 0
    assert told(broken) == (0, f"finished\n{broken.path}: sound\n")
    assert broken.call("doctor", tmp_path / "none").code == 2
    assert broken.call("doctor", tmp_path).out.endswith("cannot be resumed\n")


@pytest.mark.parametrize("name", ["summary.json", "provenance.json"])
@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_damaged_files_that_are_only_written_are_rebuilt(
    call: Call, tmp_path: Path, name: str, text: str
) -> None:
    run = begun(call, tmp_path / "outputs", *LEARN, "outer.steps=1", "hd.enabled=false")
    before = everything(run.path)
    (run.path / name).write_text(text)
    code, out = told(run)
    assert (code, f"{name} cannot be read" in out) == (1, True)
    answer = call("run", "--resume", run.path)
    assert answer.code == 0, answer.err
    assert f"{name} was damaged, and is rebuilt" in answer.err
    assert (run.path / f"{name}.damaged").read_text() == text
    assert everything(run.path) == before
    assert json.loads((run.path / "provenance.json").read_text())["sessions"]
    assert told(run)[0] == 0


def test_an_older_checkpoint_says_what_is_repeated(
    broken: Broken, call: Call, tmp_path: Path
) -> None:
    newest = max((broken.path / "checkpoints").glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-1])
    code, out = told(broken)
    assert (code, "passed over a damaged checkpoint" in out) == (1, True)
    assert "goes on from its checkpoint: repeat 1, ours, outer step 1" in out
    answer = broken.call("run", "--resume", broken.path)
    assert answer.code == 0, answer.err
    text = " ".join(answer.err.split())
    assert "an older one is used: 0 s of work (4 of inner.csv and 4 of outer.csv)" in text
    whole = begun(call, tmp_path / "whole", *LEARN)
    assert everything(broken.path) == everything(whole.path)


@pytest.mark.parametrize("name", ["inner.csv", "outer.csv"])
def test_a_changed_digit_in_the_rows_of_both_checkpoints_is_refused(
    broken: Broken, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = broken.path / name
    header, rows = path.read_text().split("\n", 1)
    path.write_text(f"{header}\n7{rows[1:]}")  # another seed, in as many bytes
    code, out = told(broken)
    assert (code, f"{name} is not what it was" in out) == (2, True)
    answer = resumed_nearby(broken, monkeypatch)
    assert answer.code == 1
    assert f"{name} is not what it was" in answer.err


def test_a_changed_digit_in_late_rows_costs_what_came_since_the_older_checkpoint(
    broken: Broken, call: Call, tmp_path: Path
) -> None:
    path = broken.path / "outer.csv"
    *lines, last = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines) + last.replace("windows", "window5"))
    code, out = told(broken)
    assert (code, "outer step 1" in out) == (1, True)
    assert broken.call("run", "--resume", broken.path).code == 0
    whole = begun(call, tmp_path / "whole", *LEARN)
    assert everything(broken.path) == everything(whole.path)


def another_result(path: Path) -> None:
    text = path.read_text()
    record = json.loads(text)
    accuracy = f'"validation_accuracy": {record["validation_accuracy"]}'
    assert accuracy in text
    path.write_text(text.replace(accuracy, '"validation_accuracy": 0.999'))


def no_share(path: Path) -> None:
    write_record(path, {**read_record(path), "validation_accuracy": 7.0})


def another_trials(path: Path) -> None:
    others = [own for own in path.parent.glob("seed*.json") if own != path]
    shutil.copy(others[0], path)


@pytest.mark.parametrize("change", [another_result, no_share, another_trials])
def test_a_changed_record_of_a_trial_is_refused(
    call: Call, tmp_path: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = "search.grid.momentum=[0.5,0.9]"
    run = begun(call, tmp_path / "outputs", *SEARCH, two)
    before = (run.path / "trials.csv").read_text()
    assert told(run)[0] == 0
    record = min((run.path / "trials").glob("seed*.json"))
    change(record)
    answer = resumed_nearby(run, monkeypatch)
    assert answer.code == 1
    assert f"{record.name} is damaged" in answer.err
    if change is not no_share:  # which a program wrote
        code, out = told(run)
        assert (code, f"trials/{record.name}: its checksum" in out) == (1, True)
    record.unlink()
    assert call("run", "--resume", run.path).code == 0
    drop = [line.rsplit(",", 3)[0] for line in before.splitlines()]
    again = (run.path / "trials.csv").read_text().splitlines()
    assert [line.rsplit(",", 3)[0] for line in again] == drop


def test_a_changed_record_of_a_repeat_is_refused(call: Call, tmp_path: Path) -> None:
    run = begun(call, tmp_path / "outputs", *STUDY)
    before = (run.path / "hypergradients.csv").read_text()
    (record,) = (run.path / "repeats").glob("*.json")
    whole = record.read_text()
    other_digit(record)
    assert told(run)[0] == 1
    answer = call("run", "--resume", run.path)
    assert (answer.code, f"{record.name} is damaged" in answer.err) == (1, True)
    for wrong in ({"greedy": [1.0]}, {"ground": "0"}):
        record.write_text(whole)
        write_record(record, {**read_record(record), **wrong})
        assert f"{record.name} is damaged" in call("run", "--resume", run.path).err
    record.write_text(whole)
    record.rename(record.with_name("train_0001.json"))  # another repeat's
    run.edit("repeats", 1)
    assert call("run", "--resume", run.path).code == 0
    assert (run.path / "hypergradients.csv").read_text() == before


def test_a_changed_training_of_an_improvement_is_refused(call: Call, tmp_path: Path) -> None:
    run = begun(call, tmp_path / "outputs", *IMPROVE)
    assert told(run)[0] == 0
    records = run.path / "trainings.csv"
    whole = records.read_text()
    lines = whole.splitlines(keepends=True)
    for changed in (
        whole.replace(",0.", ",0.9", 1),
        "".join([*lines[:1], lines[2], lines[1], *lines[3:]]),
        "".join([*lines[:1], *lines[2:]]),
    ):
        records.write_text(changed)
        assert told(run)[0] == 1
        answer = call("run", "--resume", run.path)
        assert (answer.code, "trainings.csv is damaged (line 2" in answer.err) == (1, True)
    records.write_text("".join(lines[:2]))
    assert call("run", "--resume", run.path).code == 0
    again = records.read_text().splitlines()
    assert [line.split(",")[:10] for line in again] == [
        line.split(",")[:10] for line in whole.splitlines()
    ]


def test_edited_settings_and_lost_ground_are_said(broken: Broken) -> None:
    broken.edit("epochs", 3)
    code, out = told(broken)
    assert (code, "epochs: 2 when it began, 3 now" in out) == (2, True)
    broken.edit("epochs", 2)
    broken.edit("threads", "2")
    code, out = told(broken)
    assert (code, "asks for --accept-changes: threads: 1 when" in out) == (0, True)
    broken.edit("threads", "1")
    other_digit(broken.path / "ground.json", b'": ')
    code, out = told(broken)
    assert (code, "ground.json is damaged" in out, "outer step 2" in out) == (1, True, True)
    (broken.path / "ground.json").unlink()
    assert told(broken)[0] == 0


def test_leftovers_go_and_the_holder_is_named(broken: Broken) -> None:
    left = [
        broken.path / folder / ".x.json.01234567.tmp~"
        for folder in (".", ".hydra", "checkpoints", "figures")
    ]
    for path in left:
        path.write_text("half")
    code, out = told(broken)
    assert (code, "4 half-written files" in out) == (0, True)
    with RunDirectory(broken.path).hold():
        for path in left:
            path.write_text("half")
        answer = broken.call("run", "--resume", broken.path)
        assert answer.code == 2
        assert "is being written by process" in answer.err
        assert "look again" in broken.call("doctor", broken.path).out
    assert broken.call("run", "--resume", broken.path).code == 0
    assert [path for path in left if path.exists()] == []


def test_leftovers_of_trials_go_but_not_those_of_a_live_helper(call: Call, tmp_path: Path) -> None:
    run = begun(call, tmp_path / "outputs", *SEARCH)
    dead, live = (
        run.path / "trials" / f".seed0_{number}.json.01234567.tmp~"
        for number in ("00000000000a", "00000000000b")
    )
    dead.write_text("half")
    live.write_text("half")
    (run.path / "claims").mkdir(exist_ok=True)
    with filelock.FileLock(run.path / "claims" / "seed0_00000000000b.lock"):
        assert call("run", "--resume", run.path).code == 0
    assert (dead.exists(), live.exists()) == (False, True)


def test_members_are_looked_at_too(call: Call, tmp_path: Path) -> None:
    sweep = (*LEARN, "-m", "seed=0,1", "outer.steps=1", "epochs=1", "hd.enabled=false")
    run = begun(call, tmp_path / "outputs", *sweep)
    code, out = told(run)
    assert code == 0
    assert out.splitlines()[:2] == ["0_seed=0: finished", "1_seed=1: finished"]
    (run.path / "1_seed=1" / "summary.json").write_text("{")
    (run.path / "0_seed=0" / ".hydra" / "config.yaml").unlink()
    code, out = told(run)
    assert (code, "0_seed=0: not begun" in out) == (1, True)
    assert "1_seed=1: summary.json cannot be read" in out
    assert call("run", "--resume", run.path).code == 0
    assert told(run)[0] == 0
    members = run.path / "members.json"
    members.write_text(members.read_text().replace("seed: 1", "seed: 2"))
    code, out = told(run)
    assert (code, "members.json has changed" in out) == (2, True)
