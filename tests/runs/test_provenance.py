import json
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

import hypergrad
from hypergrad.runs import provenance as module
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.provenance import finish_session, first_recorded, provenance, record_session


def test_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    entry = provenance("cuda:0 (Some GPU)", [0, 1], ["hypergrad", "run", "fig1"])
    assert json.loads(json.dumps(entry)) == entry
    assert entry["device"] == "cuda:0 (Some GPU)"
    assert entry["seeds"] == [0, 1]
    assert entry["command"] == ["hypergrad", "run", "fig1"]
    assert entry["threads"] == {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": None}
    assert entry["hypergrad"] == hypergrad.__version__
    assert entry["torch"] == version("torch")
    assert entry["torchvision"] == version("torchvision")
    assert entry["numpy"] == version("numpy")
    assert entry["python"] == platform.python_version()
    assert entry["cpu_count"] == os.cpu_count()
    started = datetime.fromisoformat(str(entry["started"]))
    assert started.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - started) < timedelta(minutes=1)


def test_without_git_the_commit_is_null(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    entry = provenance("cpu", [0], [])
    assert entry["git_commit"] is None
    assert entry["git_dirty"] is None


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_state_of_a_source_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.org")

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    package = tmp_path / "hypergrad"
    package.mkdir()
    assert module._git_state(tmp_path) == (None, None)
    git("init", "-q")
    assert module._git_state(tmp_path) == (None, False)  # no commit yet, and no file
    (package / "sgd.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert module._git_state(tmp_path) == (commit, False)
    (tmp_path / "notes.txt").write_text("not a source")
    assert module._git_state(tmp_path) == (commit, False)
    (package / "sgd.py").write_text("a = 2\n")
    assert module._git_state(tmp_path) == (commit, True)
    # Installed inside another project's repository: its commit is not ours.
    assert module._git_state(package) == (None, None)


def test_sessions_add_up(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "fig1")
    with pytest.raises(ValueError, match="record_session first"):
        finish_session(run, 1.0)
    record_session(run, {"started": "monday", "device": "cpu"})
    record = run.read_json("provenance.json")
    assert record == {
        "started": "monday",
        "device": "cpu",
        "wall_seconds": 0.0,
        "sessions": [{"started": "monday", "device": "cpu"}],
    }
    finish_session(run, 1.0)
    finish_session(run, 1.5)  # it went on
    record_session(run, {"started": "tuesday", "device": "cpu"})  # killed: no time
    record_session(run, {"started": "wednesday", "device": "cuda:0"})
    finish_session(run, 2.25)
    record = run.read_json("provenance.json")
    assert record["started"] == "monday"
    assert record["wall_seconds"] == 3.75
    assert [session["started"] for session in record["sessions"]] == [
        "monday",
        "tuesday",
        "wednesday",
    ]
    assert [session.get("wall_seconds") for session in record["sessions"]] == [1.5, None, 2.25]


def test_the_first_that_recorded_something_counts(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "fig1")
    assert first_recorded(run, "pixels") is None
    for entry in ({"device": "cpu"}, {"pixels": None}, {"pixels": "a"}, {"pixels": "b"}):
        record_session(run, entry)
    assert first_recorded(run, "pixels") == "a"
    assert first_recorded(run, "device") == "cpu"
