import errno
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from hypergrad.runs.directory import RunDirectory, find_runs, newest_run

HOLDER = """
import sys
from pathlib import Path
from hypergrad.runs.directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).hold():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory.create(tmp_path / "outputs", "fig1")
    run.write_config("seed: 0\n", ["seed=0"])
    return run


@contextmanager
def another_process_holding(run: RunDirectory) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(run.path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_create_makes_the_documented_layout(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "outputs", "fig1")
    assert run.path.parent == tmp_path / "outputs" / "fig1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d{6}_[0-9a-f]{6}", run.path.name)
    assert sorted(path.name for path in run.path.iterdir()) == ["checkpoints", "figures"]


def test_create_takes_another_id_when_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(["aaaaaa", "aaaaaa", "aaaaaa", "bbbbbb", "cccccc"])
    monkeypatch.setattr("hypergrad.runs.directory.secrets.token_hex", lambda _: next(ids))
    monkeypatch.setattr("hypergrad.runs.directory.datetime", FrozenTime)
    names = [RunDirectory.create(tmp_path, "fig1").path.name for _ in range(3)]
    assert names == [f"2025-01-31_120000_{character * 6}" for character in "abc"]


class FrozenTime:
    @classmethod
    def now(cls) -> "FrozenTime":
        return cls()

    def strftime(self, _: str) -> str:
        return "2025-01-31_120000"


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", ".hidden"])
def test_create_refuses_names_that_are_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="without slashes"):
        RunDirectory.create(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_open_names_the_path_and_the_remedy(run: RunDirectory, tmp_path: Path) -> None:
    assert RunDirectory.open(run.path) == run
    with pytest.raises(ValueError, match=r"outputs holds no \.hydra/config\.yaml.*hypergrad runs"):
        RunDirectory.open(tmp_path / "outputs")
    with pytest.raises(ValueError, match=r"nowhere is not a directory.*hypergrad runs"):
        RunDirectory.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "overrides", [[], ["data=mnist", "seed=1"], ["a='x: y'", "b=[1,2]", "c=α", "- d", "null"]]
)
def test_config_and_overrides_round_trip(run: RunDirectory, overrides: list[str]) -> None:
    run.write_config("method:\n  shared: true # α\n", overrides)
    assert run.config_text() == "method:\n  shared: true # α\n"
    assert run.overrides() == overrides
    text = (run.path / ".hydra" / "overrides.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == overrides


def test_damaged_overrides_are_an_error(run: RunDirectory) -> None:
    path = run.path / ".hydra" / "overrides.yaml"
    for text in ("a: 1\n", "[", "x"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"overrides\.yaml is not a YAML list"):
            run.overrides()
    path.unlink()
    assert run.overrides() == []


def test_json_round_trip(run: RunDirectory) -> None:
    assert run.read_summary() == {}
    summary = {"status": "finished", "results": [{"test_accuracy": 0.1 + 0.2}], "message": "α"}
    run.write_summary(summary)
    assert run.read_summary() == summary
    assert json.loads((run.path / "summary.json").read_text(encoding="utf-8")) == summary
    run.write_json("schedule.json", {"learning_rate": [math.nan]})
    assert math.isnan(run.read_json("schedule.json")["learning_rate"][0])
    for damaged in ('{"status": "fin', "[]", ""):
        (run.path / "summary.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"summary\.json"):
            run.read_summary()
        assert run.status() == "damaged"


def test_hold_keeps_another_process_out(run: RunDirectory) -> None:
    run.write_summary({"status": "running"})
    assert not run.is_held()
    assert not (run.path / ".lock").exists()  # looking leaves nothing behind
    assert run.status() == "killed"
    with another_process_holding(run) as process:
        assert run.is_held()
        assert run.status() == "running"
        message = re.escape(str(run.path)) + f" is being written by process {process.pid} "
        with pytest.raises(ValueError, match=message), run.hold():
            pytest.fail("two processes hold the run")
        process.kill()
        process.wait()
        assert not run.is_held()
        assert run.status() == "killed"
    with run.hold():
        assert run.is_held()
        assert run.status() == "running"
        process = subprocess.run(
            [sys.executable, "-c", HOLDER, str(run.path)], capture_output=True, text=True
        )
        assert process.returncode == 1
        assert f"is being written by process {os.getpid()} (`" in process.stderr
        assert process.stdout == ""
    assert not run.is_held()


def test_hold_is_released_after_an_error_and_removes_leftovers(run: RunDirectory) -> None:
    leftover = run.path / ".summary.json.01234567.tmp~"
    leftover.write_text("half")

    def fail() -> None:
        with run.hold():
            assert not leftover.exists()
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    with run.hold():
        assert run.is_held()


@pytest.mark.parametrize("status", ["interrupted", "failed", "finished"])
def test_status_of_a_run_that_came_to_an_end(run: RunDirectory, status: str) -> None:
    assert run.status() == "killed"  # it never wrote a summary
    run.write_summary({"status": status})
    assert run.status() == status


def test_status_of_a_run_that_ends_between_two_looks(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_summary({"status": "running"})

    def finish(self: RunDirectory) -> bool:
        self.write_summary({"status": "finished"})
        return False

    monkeypatch.setattr(RunDirectory, "is_held", finish)
    assert run.status() == "finished"


def test_find_runs_sorts_by_time_and_passes_over_foreign_files(tmp_path: Path) -> None:
    assert find_runs(tmp_path / "outputs") == []
    assert newest_run(tmp_path / "outputs", "fig1") is None
    names = [
        "fig1/2025-03-01_000000_000000",
        "fig3/2025-01-01_000000_ffffff",
        "fig1/2024-12-31_235959_ffffff",
        "fig1/renamed",
    ]
    for name in names:
        RunDirectory(tmp_path / name).path.mkdir(parents=True)
        RunDirectory(tmp_path / name).write_config("", [])
    (tmp_path / "README.md").write_text("")
    (tmp_path / "fig1" / "notes.txt").write_text("")
    (tmp_path / "fig1" / "2026-01-01_000000_000000").mkdir()  # no configuration: no run yet
    (tmp_path / "fig1" / "2026-01-01_000000_000001").symlink_to(tmp_path / "nowhere")
    (tmp_path / "fig1" / "2026-01-01_000000_000002").mkdir()
    (tmp_path / "fig1" / "2026-01-01_000000_000002" / ".hydra").write_text("a file")

    def found(experiment: str | None = None) -> list[str]:
        return [str(run.path.relative_to(tmp_path)) for run in find_runs(tmp_path, experiment)]

    assert found() == [names[3], names[2], names[1], names[0]]
    assert found("fig1") == [names[3], names[2], names[0]]
    assert found("fig2") == []
    assert found("README.md") == []
    assert newest_run(tmp_path, "fig1") == RunDirectory(tmp_path / names[0])


def test_nothing_but_checkpoints_and_the_log_imports_torch() -> None:
    script = (
        "import sys\n"
        "import hypergrad.runs, hypergrad.runs.atomic\n"
        "import hypergrad.runs.directory, hypergrad.runs.interrupt, hypergrad.runs.provenance\n"
        "print(sorted({'torch', 'numpy', 'yaml', 'filelock'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout == "[]\n"


def test_a_place_that_is_named_takes_over_a_start_that_was_killed(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "run"
    RunDirectory.create_at(place)
    assert {entry.name for entry in place.iterdir()} == {"checkpoints", "figures"}
    (place / "members.json").write_text("{}")
    assert RunDirectory.create_at(place).path == place
    (place / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"is no run and holds notes\.txt: name an empty"):
        RunDirectory.create_at(place)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file: name a directory"):
        RunDirectory.create_at(tmp_path / "file")


@pytest.mark.skipif(sys.platform == "win32", reason="locks another way")
def test_a_file_system_without_locks_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    run = RunDirectory.create_at(tmp_path / "run")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ValueError, match="cannot be locked .*name a folder elsewhere"):
        with run.hold():
            pytest.fail("nobody holds it")
