"""Runs made of runs: Figure 3's data sets and methods, and sweeps."""

import json
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pandas as pd
import pytest
from commands import Call, only_run
from tiny import everything

from hypergrad.drivers.inner_optimizer import columns_at
from hypergrad.drivers.member_pool import Pool
from hypergrad.drivers.members import as_entry, compose_member, compose_sweep
from hypergrad.drivers.multirun import MultiRun, start_multirun
from hypergrad.parallel.worker import WorkerLost
from hypergrad.reporting.multirun_report import members_table
from hypergrad.reporting.progress import TaskProgress
from hypergrad.runs.directory import RunDirectory

SMALL = (
    "data=digits",
    "model=mlp",
    "scale=smoke",
    "model.options.hidden=8",
    "hyperparameters.learning_rate.count=3",
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
    assert columns_at(member.config, 468) == [468]
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
    from hypergrad.drivers import first_look, multirun

    original = multirun.prepare

    def prepare(config, **options):  # noqa: ANN001, ANN003, ANN202
        if config.data.name == "svhn":
            raise DataError("svhn cannot be had here")
        digits = replace(config.data, name="digits", image_size=None)
        return original(replace(config, data=digits), **options)

    monkeypatch.setattr(first_look, "prepare", prepare)
    monkeypatch.setattr(multirun, "prepare", prepare)
    answer = call("run", "fig3", "method=hd", *SMALL[1:], f"outputs={tmp_path}")
    assert answer.code == 3, answer.err
    assert "fig3: without svhn: svhn cannot be had here" in answer.err.splitlines()[-1]
    run = only_run(tmp_path)
    assert (run / "figures" / "fig3.png").is_file()
    monkeypatch.setattr(first_look, "prepare", lambda config: prepare_none())
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
        assert answer.out.count(f"\n{name} ") == 1
    assert len(answer.out.splitlines()) <= 10


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


class Kill:
    """Ends the process, as far as a test can: the command leaves with code 9."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> None:
        if self.left == 0:
            raise SystemExit(9)
        self.left -= 1


def kill_before_member(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """End the process when it is about to make the directory of a member, counted from 0."""
    kill, original = Kill(number), RunDirectory.member

    def member(self: RunDirectory, name: str) -> RunDirectory:
        kill()
        return original(self, name)

    monkeypatch.setattr(RunDirectory, "member", member)


def kill_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """End the process when there is a parent directory and nothing in it but what it is."""
    monkeypatch.setattr(MultiRun, "drive", lambda self, look: Kill(0)())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What the members of the small Figure 3 come to."""
    outputs = tmp_path_factory.mktemp("undisturbed")
    whole = compose_member("", "fig3", [*SMALL, f"outputs={outputs}"])
    assert start_multirun(whole, [], Pool()) == 0
    return contents(only_run(outputs))


@pytest.mark.parametrize(
    "members",
    [None, pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(2, marks=pytest.mark.slow)],
)
def test_a_run_killed_while_it_is_set_up_goes_on(
    call: Call,
    tmp_path: Path,
    undisturbed: dict[str, dict[str, str]],
    members: int | None,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if members is None:
            kill_before_anything(patch)
        else:
            kill_before_member(patch, members)
        assert call("run", "fig3", *SMALL, f"outputs={tmp_path}").code == 9
    run = only_run(tmp_path)
    assert len(list(run.glob("digits_*"))) == (members or 0)
    (listed,) = json.loads(call("runs", "--outputs", tmp_path, "--format", "json").out)
    assert listed["status"] == "killed"
    again = call("run", "--resume", run)
    assert again.code == 0, again.err
    assert contents(run) == undisturbed


def test_what_is_done_is_told_by_cost(call: Call, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_before_member(patch, 1)
        call("run", "fig3", *SMALL, f"outputs={tmp_path}")
    summary = json.loads((only_run(tmp_path) / "summary.json").read_text())
    costs = summary["costs"]
    assert list(costs) == ["digits_shared", "digits_unshared", "digits_hd"]
    assert costs["digits_unshared"] > costs["digits_hd"] > 0
    assert summary["progress"]["phase"] == "digits_unshared"
    share = costs["digits_shared"] / sum(costs.values())
    assert summary["progress"]["fraction"] == pytest.approx(share)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_run_goes_on_with_another_number_of_processes(
    call: Call,
    tmp_path: Path,
    undisturbed: dict[str, dict[str, str]],
    before: int,
    after: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if before == 1:
            kill_before_member(patch, 1)
        else:  # when the first of them is done
            patch.setattr(TaskProgress, "say", lambda self, text: Kill(0)())
        begun = call("run", "fig3", *SMALL, f"jobs={before}", f"outputs={tmp_path}")
        assert begun.code == 9
    run = only_run(tmp_path)
    for override, remedy in (("seed=1", "keeps its configuration"), ("jobs=0", "as in jobs=2")):
        refused = call("run", "--resume", run, override)
        assert (refused.code, remedy in refused.err) == (2, True)
    again = call("run", "--resume", run, f"jobs={after}")
    assert again.code == 0, again.err
    assert contents(run) == undisturbed
    logs = {path.parent.name for path in run.glob("*/log.txt")}
    assert len(logs) == 2 if after == 2 else len(logs) >= 1


SWEEP = ("from_zero", *SMALL[2:], "hd.enabled=false", "baseline.enabled=false")


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_members_of_a_sweep_are_the_runs_that_they_say(
    call: Call, tmp_path: Path, jobs: int
) -> None:
    single = call("run", *SWEEP, "seed=3", "outer.steps=1", f"outputs={tmp_path / 'single'}")
    assert single.code == 0, single.err
    swept = ("seed=0,3", "outer.steps=1", f"jobs={jobs}", f"outputs={tmp_path / 'swept'}")
    answer = call("run", *SWEEP, "-m", *swept)
    assert answer.code == 0, answer.err
    run = only_run(tmp_path / "swept")
    assert [path.name for path in sorted(run.glob("*=*"))] == ["0_seed=0", "1_seed=3"]
    assert everything(run / "1_seed=3") == everything(only_run(tmp_path / "single"))
    assert (run / "1_seed=3" / "figures" / "fig1.png").is_file()
    assert (run / "0_seed=0" / "log.txt").is_file() == (jobs == 2)
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["progress"]["fraction"]) == ("finished", 1)
    # what they came to, in one table
    members = pd.read_csv(run / "members.csv")
    assert list(members["seed"]) == [0, 3]
    assert list(members["status"]) == ["finished", "finished"]
    for name, row in zip(("0_seed=0", "1_seed=3"), members.to_dict("records"), strict=True):
        of_member = json.loads((run / name / "summary.json").read_text())
        accuracy = {r["method"]: r["test_accuracy"] for r in of_member["results"]}
        assert row["ours_retrained_mean"] == accuracy["ours_retrained"]
        assert row["headline"] == of_member["headline"]
        assert name in answer.out
    # once more: nothing is left to do
    before = (run / "0_seed=0" / "provenance.json").stat().st_mtime_ns
    again = call("run", "--resume", run)
    assert again.code == 0, again.err
    assert (run / "0_seed=0" / "provenance.json").stat().st_mtime_ns == before


def test_spread_over_seeds_is_in_the_table_of_members(tmp_path: Path) -> None:
    whole = compose_sweep("from_zero", ["seed=0,3"])
    listed = {"members": [as_entry(member) for member in whole.members]}
    run = RunDirectory(tmp_path)
    run.write_json("members.json", listed)
    accuracies = ((0, "hd", 0.5), (1, "hd", 0.7), (0, "sgd", 0.25))
    results = [
        {"seed": seed, "method": method, "test_accuracy": value}
        for seed, method, value in accuracies
    ]
    member = run.member("0_seed=0")
    member.write_summary({"status": "finished", "results": results, "headline": "good"})
    member.write_json("schedule.json", {"schedules": [{"validation_accuracy": 0.5}]})
    member.write_json("provenance.json", {"wall_seconds": 2.5})
    rows = members_table(run).to_dict("records")
    known = {
        "member": "0_seed=0", "seed": "0", "status": "finished", "headline": "good",
        "seconds": 2.5, "seeds": 2, "validation_accuracy": 0.5,
    }  # fmt: skip
    assert {key: rows[0][key] for key in known} == known
    assert (rows[0]["hd_mean"], rows[0]["hd_std"]) == pytest.approx((0.6, 0.02**0.5))
    assert rows[0]["sgd_mean"] == 0.25
    assert (rows[1]["member"], rows[1]["status"], rows[1]["seeds"]) == ("1_seed=3", "not begun", 0)


def test_a_sweep_of_runs_made_of_runs_reports_each(call: Call, tmp_path: Path) -> None:
    swept = ("-m", "method=hd", "seed=0,1", f"outputs={tmp_path}")
    answer = call("run", "fig3", *SMALL, *swept)
    assert answer.code == 0, answer.err
    run = only_run(tmp_path)
    for name in ("0_seed=0", "1_seed=1"):
        assert (run / name / "figures" / "fig3.png").is_file()
        assert (run / name / "digits_hd" / "inner.csv").is_file()
    assert list(pd.read_csv(run / "members.csv")["status"]) == ["finished", "finished"]


def test_a_member_whose_process_is_lost_goes_on_and_one_that_always_is_has_failed(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hypergrad.drivers import multirun

    calls: list[list[str]] = []

    def spread(work, tasks, executor, interrupt, begin):  # noqa: ANN001, ANN202
        taken = list(islice(tasks, executor.jobs))
        calls.append([task.member.name for task in taken])
        for task in taken:
            if task.member.name == "digits_unshared":
                raise WorkerLost("a worker process died")
            yield task, multirun.run_member(task)

    monkeypatch.setattr(multirun, "spread", spread)
    answer = call("run", "fig3", *SMALL, "jobs=2", f"outputs={tmp_path}")
    assert answer.code == 3, answer.err
    assert "digits_unshared: a worker process died, 3 times" in answer.err
    assert calls == [
        ["digits_shared", "digits_unshared"],
        ["digits_unshared", "digits_hd"],
        ["digits_unshared", "digits_hd"],
        ["digits_hd"],
    ]


def test_names_of_swept_members_are_names_of_folders() -> None:
    swept = ["data.path=/a/b,/c", "model.options.hidden=4,8", "seed=1"]
    names = [member.name for member in compose_sweep("from_zero", swept).members]
    assert names == [
        "0_data.path=_a_b,model.options.hidden=4",
        "1_data.path=_a_b,model.options.hidden=8",
        "2_data.path=_c,model.options.hidden=4",
        "3_data.path=_c,model.options.hidden=8",
    ]
    assert [member.name for member in compose_sweep("from_zero", ["seed=1"]).members] == ["0"]


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("jobs=some", "as in jobs=2"),
        ("executor=slurm", "use local or ray"),
        ("gpus=1", "use executor ray, or 0"),
        ("gpus=all", "give a share of one GPU"),
    ],
)
def test_where_members_cannot_be_run(call: Call, tmp_path: Path, typed: str, remedy: str) -> None:
    answer = call("run", *SWEEP, "-m", "seed=0,1", typed, f"outputs={tmp_path}")
    assert (answer.code, remedy in answer.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_typed_for_the_pool_is_not_the_members(tmp_path: Path) -> None:
    typed = ["jobs=2", "executor=ray", "gpus=0.5", "data=mnist", "method=shared"]
    (member,) = compose_member("", "fig3", typed).members
    assert (member.config.jobs, member.config.executor, member.config.gpus) == (1, "local", 0)
    assert member.overrides == ["data=mnist", "method=shared"]
