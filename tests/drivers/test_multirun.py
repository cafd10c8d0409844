"""Runs made of runs: Figure 3's data sets and methods, and sweeps."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from commands import Call, only_run
from tiny import everything

from hypergrad.drivers.members import compose_member

SMALL = (
    "data=digits",
    "model=mlp",
    "scale=smoke",
    "model.options.hidden=8",
    "method.n_learning_rates=3",
    "outer.steps=2",
)


def contents(run: Path) -> dict[str, dict[str, str]]:
    return {path.name: everything(path) for path in sorted(run.glob("digits_*"))}


def test_members_are_all_combinations_or_those_asked_for() -> None:
    names = [member.name for member in compose_member("", "fig3", []).members]
    assert names == [
        f"{data}_{method}" for data in ("mnist", "svhn") for method in ("shared", "unshared", "hd")
    ]
    typed = ["data=mnist", "method=unshared", "seed=3", "jobs=2"]
    (member,) = compose_member("", "fig3", typed).members
    assert member.name == "mnist_unshared"
    assert member.config.method.mode == "reverse"
    assert member.config.method.counts(468) == (468, 0, 0)
    assert (member.config.seed, member.config.method.batch_size) == (3, 128)
    assert member.config.method.clip_gradient == 3.0
    assert member.overrides == ["seed=3", "data=mnist", "method=unshared"]


def test_each_member_is_a_run_of_its_own(call: Call, tmp_path: Path) -> None:
    answer = call("run", "fig3", *SMALL, f"outputs={tmp_path}")
    assert answer.code == 0, answer.err
    run = only_run(tmp_path)
    members = contents(run)
    assert list(members) == ["digits_hd", "digits_shared", "digits_unshared"]
    for name in members:
        assert json.loads((run / name / "summary.json").read_text())["status"] == "finished"
        assert (run / name / ".hydra" / "config.yaml").is_file()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["headline"].startswith("digits: shared ")
    assert summary["missing"] == {"mnist": "not asked for", "svhn": "not asked for"}
    assert "fig3: without svhn: not asked for" in answer.err
    assert (run / "figures" / "fig3.png").stat().st_size > 0
    assert "digits" in answer.out
    # one member lost, another one cut short: only those are done again, to the same files
    shutil.rmtree(run / "digits_hd" / "checkpoints")
    shutil.rmtree(run / "digits_unshared" / "checkpoints")
    (run / "digits_hd" / "summary.json").unlink()
    (run / "digits_unshared" / "summary.json").unlink()
    before = (run / "digits_shared" / "provenance.json").stat().st_mtime_ns
    again = call("run", "fig3", "--resume", run)
    assert again.code == 0, again.err
    assert contents(run) == members
    assert (run / "digits_shared" / "provenance.json").stat().st_mtime_ns == before
    listed = call("runs", "--outputs", tmp_path)
    assert listed.out.count("fig3/") == 1


def test_a_data_set_that_is_not_there_is_named_and_the_rest_is_drawn(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hypergrad.data import DataError
    from hypergrad.drivers import multirun

    original = multirun.prepare

    def prepare(config, **options):  # noqa: ANN001, ANN003, ANN202
        if config.data.name == "svhn":
            raise DataError("svhn cannot be had here")
        digits = replace(config.data, name="digits", image_size=None)
        return original(replace(config, data=digits), **options)

    monkeypatch.setattr(multirun, "prepare", prepare)
    answer = call("run", "fig3", "method=hd", *SMALL[1:], f"outputs={tmp_path}")
    assert answer.code == 3, answer.err
    assert "fig3: without svhn: svhn cannot be had here" in answer.err.splitlines()[-1]
    run = only_run(tmp_path)
    assert (run / "figures" / "fig3.png").is_file()
    monkeypatch.setattr(multirun, "prepare", lambda config: prepare_none())

    def prepare_none() -> None:
        raise DataError("nothing is here")

    answer = call("run", "fig3", *SMALL[1:], f"outputs={tmp_path / 'none'}")
    assert (answer.code, answer.err.strip()) == (2, "hypergrad: nothing is here")
    assert not (tmp_path / "none").exists()


def test_the_cost_of_every_member_is_shown(call: Call) -> None:
    answer = call("run", "fig3", *SMALL, "--dry-run")
    assert answer.code == 0
    for name in ("digits_shared", "digits_unshared", "digits_hd"):
        assert f"predicted cost {name}" in answer.out


def test_when_every_member_fails_the_run_has_failed(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hypergrad.drivers.learn.driver import LearnDriver

    def fail(self: LearnDriver) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(LearnDriver, "run", fail)
    answer = call("run", "fig3", "method=hd", *SMALL, f"outputs={tmp_path}")
    assert answer.code == 1
    assert answer.err.splitlines()[-1].startswith("hypergrad: every member failed: the run failed")
    summary = json.loads((only_run(tmp_path) / "summary.json").read_text())
    assert summary["status"] == "failed"
