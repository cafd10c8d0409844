"""A run goes on with what it began with, or says in lines what has changed."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from broken import LEARN, SEARCH, STUDY, Broken, begun, broken_off, finish, stop_at_save
from commands import Call, only_run
from tiny import everything

from hypergrad.drivers import ground
from hypergrad.runs.directory import RunDirectory


@pytest.fixture
def broken(call: Call, tmp_path: Path) -> Broken:
    """Broken off after its first outer step."""
    return broken_off(call, tmp_path / "outputs")


EDITS = [
    ("seed", 1, "seed: 0 when it began, 1 now"),
    ("epochs", 3, "epochs: 2 when it began, 3 now"),
    ("repeats", 2, "repeats: 1 when it began, 2 now"),
    ("method.batch_size", 50, "method.batch_size: 100 when it began, 50 now"),
    ("data.train_size", 150, "data.train_size: 200 when it began, 150 now"),
    ("model.options.hidden", 9, "model.options.hidden: 8 when it began, 9 now"),
    ("precision", "float64", "precision: float32 when it began, float64 now"),
    ("hvp.strategy", "loop", "hvp.strategy: None when it began, loop now"),
]


def test_edited_settings_are_refused_in_lines(broken: Broken) -> None:
    config = broken.path / ".hydra" / "config.yaml"
    as_it_was = config.read_text()
    for key, value, _ in EDITS:
        config.write_text(as_it_was)
        broken.edit(key, value)
        before = broken.files()
        answer = broken.call("run", "--resume", broken.path)
        first, *lines = answer.err.splitlines()
        assert answer.code == 2, (key, answer.err)
        if key == "data.train_size":  # which changes what it computes on, too
            assert "its data holds other pixels" in first
        else:
            assert "began with something else" in first
            assert "--fork" in first
            assert f"  {key}: " in "\n".join(lines)
        assert broken.files() == before
    for key, value, line in EDITS:
        if key in ("data.train_size", "method.batch_size", "hvp.strategy"):
            continue
        config.write_text(as_it_was)
        broken.edit(key, value)
        lines = broken.call("run", "--resume", broken.path).err.splitlines()[1:]
        assert lines == [f"  {line}"]
    config.write_text(as_it_was)
    assert broken.call("run", "--resume", broken.path).code == 0


def test_what_changes_no_number_may_be_edited(broken: Broken) -> None:
    for key, value in (("checkpoint_seconds", 5.0), ("outputs", "elsewhere"), ("scale", "smoke")):
        broken.edit(key, value)
    assert broken.call("run", "--resume", broken.path).code == 0


def test_other_threads_and_versions_are_accepted_if_that_is_said(
    broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = ground._version
    monkeypatch.setattr(ground, "_version", lambda n: "9.9" if n == "torch" else version(n))
    monkeypatch.setattr(ground, "_source", lambda: "0123456789ab")
    broken.edit("threads", "2")
    answer = broken.call("run", "--resume", broken.path)
    assert answer.code == 2
    first, *lines = answer.err.splitlines()
    assert "--accept-changes goes on" in first
    assert [line.split(":")[0] for line in lines] == [
        "  source of hypergrad",
        "  threads",
        "  torch",
    ]
    assert lines[1] == "  threads: 1 when it began, 2 now"
    assert lines[2].endswith(", 9.9 now")
    answer = broken.call("run", "--resume", broken.path, "--accept-changes")
    assert answer.code == 0, answer.err
    assert "accepted: threads: 1 when it began, 2 now" in answer.err
    session = json.loads((broken.path / "provenance.json").read_text())["sessions"][-1]
    assert [text[:7] for text in session["accepted_changes"]] == ["source ", "threads", "torch: "]
    (accepted,) = json.loads((broken.path / "ground.json").read_text())["accepted"]
    assert len(accepted["changes"]) == 3
    finish(broken.path)  # and what was accepted is what it stands on now
    assert broken.call("run", "--resume", broken.path).code == 0


def test_nothing_that_is_fixed_can_be_accepted(broken: Broken) -> None:
    broken.edit("epochs", 3)
    assert broken.call("run", "--resume", broken.path, "--accept-changes").code == 2


def test_without_ground_the_checkpoint_knows(broken: Broken) -> None:
    (broken.path / "ground.json").unlink()
    broken.edit("epochs", 3)
    answer = broken.call("run", "--resume", broken.path)
    assert answer.code == 2
    assert "ground.json is lost or damaged" in answer.err.splitlines()[0]
    assert answer.err.splitlines()[1].startswith("  fixed: ")
    broken.edit("epochs", 2)
    (broken.path / "ground.json").write_text("{")
    assert broken.call("run", "--resume", broken.path).code == 0
    assert json.loads((broken.path / "ground.json").read_text())["fixed"]["epochs"] == 2


def test_a_fork_goes_on_elsewhere_and_leaves_the_run_as_it_was(
    broken: Broken, tmp_path: Path
) -> None:
    before = broken.files()
    answer = broken.call("run", "--resume", broken.path, "--fork", "outer.steps=4")
    assert answer.code == 0, answer.err
    assert broken.files() == before
    (new,) = (path for path in (tmp_path / "outputs").glob("*/*") if path != broken.path)
    assert json.loads((new / "summary.json").read_text())["forked_from"] == str(broken.path)
    inner = (new / "inner.csv").read_bytes()
    assert inner.startswith(before["inner.csv"])
    assert (new / "outer.csv").read_text().count("\n") == 1 + 4 * 4
    # With the same settings it comes to the same.
    broken.call("run", "--resume", broken.path, "--fork")
    broken.call("run", "--resume", broken.path)
    (same,) = (p for p in (tmp_path / "outputs").glob("*/*") if p not in (broken.path, new))
    assert everything(same) == everything(broken.path)


def test_a_fork_that_does_not_fit_says_so(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = broken.call("run", "--fork", "from_zero")
    assert (answer.code, "--resume RUN" in answer.err) == (2, True)
    with monkeypatch.context() as patch:  # in the middle of an inner run
        stop_at_save(patch, 1)
        broken.edit("checkpoint_seconds", 0.0)
        assert broken.call("run", "--resume", broken.path).code == 1
    answer = broken.call("run", "--resume", broken.path, "--fork", "model.options.hidden=9")
    assert answer.code == 1
    assert "the checkpoint does not fit these settings" in answer.err.splitlines()[-1]


@pytest.mark.parametrize("command", [SEARCH, STUDY], ids=["search", "hypervariance"])
def test_records_of_other_settings_are_not_gone_on_with(
    call: Call, tmp_path: Path, command: tuple[str, ...]
) -> None:
    run = begun(call, tmp_path / "outputs", *command)
    size = yaml.safe_load((run.path / ".hydra" / "config.yaml").read_text())["method"]["batch_size"]
    run.edit("method.batch_size", 20)
    answer = call("run", "--resume", run.path)
    assert answer.code == 2
    line = f"  method.batch_size: {size} when it began, 20 now"
    assert line in answer.err.splitlines()
    run.edit("method.batch_size", size)
    run.edit("threads", "2")
    assert "--accept-changes" in call("run", "--resume", run.path).err
    run.edit("threads", "1")
    (run.path / "ground.json").unlink()
    assert call("run", "--resume", run.path).code == 0


def test_a_member_on_other_ground_fails_alone_and_changed_members_are_refused(
    call: Call, tmp_path: Path
) -> None:
    sweep = (*LEARN, "-m", "seed=0,1", "outer.steps=1", "epochs=1")
    answer = call(*sweep, f"outputs={tmp_path / 'outputs'}")
    assert answer.code == 0, answer.err
    run = only_run(tmp_path / "outputs")
    member = Broken(run / "1_seed=1", call)
    finish(member.path)
    member.edit("epochs", 3)
    answer = call("run", "--resume", run)
    assert answer.code == 3
    assert "1_seed=1: " in answer.err
    assert "epochs: 1 when it began, 3 now" in answer.err
    member.edit("epochs", 1)
    member.edit("threads", "2")
    assert call("run", "--resume", run).code == 3
    assert call("run", "--resume", run, "--accept-changes").code == 0
    whole = Broken(run, call)
    whole.edit("epochs", 3)
    answer = call("run", "--resume", run)
    assert (answer.code, "  epochs: 1 when it began, 3 now" in answer.err.splitlines()) == (2, True)
    whole.edit("epochs", 1)
    members = run / "members.json"
    members.write_text(members.read_text().replace("seed: 1", "seed: 2"))
    answer = call("run", "--resume", run)
    assert (answer.code, "members.json has changed" in answer.err) == (2, True)


def test_a_schedule_is_not_confirmed_with_edited_settings(broken: Broken) -> None:
    broken.edit("epochs", 3)
    answer = broken.call("confirm", broken.path, "--trainings", 2)
    assert answer.code == 2
    assert "  epochs: 2 when it began, 3 now" in answer.err.splitlines()


def test_a_run_of_an_older_version_is_named(broken: Broken) -> None:
    run = RunDirectory(broken.path)
    record = run.read_json("provenance.json")
    run.write_json("provenance.json", {**record, "git_commit": "0123456789abcdef"})
    config = broken.path / ".hydra" / "config.yaml"
    whole = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({k: v for k, v in whole.items() if k != "improve"}))
    answer = broken.call("run", "--resume", broken.path)
    assert answer.code == 2
    assert "made by an older version" in answer.err
    assert "commit 0123456789ab" in answer.err
    assert "it lacks improve" in answer.err
    run.write_json("provenance.json", record)  # of this one: the file was cut short
    assert "restore .hydra/config.yaml" in broken.call("run", "--resume", broken.path).err


def test_a_run_that_noted_no_ground_is_of_an_older_version(
    broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    (broken.path / "ground.json").unlink()
    for path in (broken.path / "checkpoints").glob("*.json"):
        document = json.loads(path.read_text())
        del document["body"]["state"]["ground"]
        text = json.dumps(document["body"])
        document["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        path.write_text(json.dumps(document))
    answer = broken.call("run", "--resume", broken.path)
    assert answer.code == 2
    assert "did not write down what its results depend on" in answer.err
