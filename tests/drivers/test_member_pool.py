"""Where members are run: how many processes start, with which threads, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Call, only_run

from hypergrad.config.composition import load
from hypergrad.config.machine import cores
from hypergrad.drivers import multirun
from hypergrad.drivers.member_pool import Pool
from hypergrad.parallel.worker import Executor
from hypergrad.runs.directory import RunDirectory

TINY = (
    *("from_zero", "scale=smoke", "model.options.hidden=8", "outer.steps=1"),
    *("hyperparameters.learning_rate.count=2", "hd.enabled=false", "baseline.enabled=false"),
)
MOST = 8 * cores()


@pytest.fixture
def executors(monkeypatch: pytest.MonkeyPatch) -> list[Executor]:
    """The pools of members that were asked for; members run in this process."""
    asked: list[Executor] = []

    def spread(work, tasks, executor, interrupt, begin):  # noqa: ANN001, ANN202
        asked.append(executor)
        for task in tasks:
            yield task, multirun.run_member(task)

    monkeypatch.setattr(multirun, "spread", spread)
    return asked


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("jobs=1000000", "seed=0,1"), f"jobs=1000000: this machine has {cores()} cores"),
        ((f"jobs={MOST}", "threads=1,2"), f"threads=2 with jobs={MOST}: {2 * MOST} threads"),
    ],
)
def test_absurd_sweeps_are_refused_before_anything_runs(
    call: Call, tmp_path: Path, typed: tuple[str, ...], said: str, dry: tuple[str, ...]
) -> None:
    answer = call("run", *TINY, *dry, "-m", *typed, f"outputs={tmp_path}")
    assert (answer.code, said in answer.err) == (2, True)
    assert answer.err.count("\n") == 1
    assert answer.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_no_more_workers_start_than_there_are_members_and_they_share_the_cores(
    call: Call, tmp_path: Path, executors: list[Executor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypergrad.drivers.threads.cores", lambda: 6)
    common = ("-m", "seed=0,1", f"outputs={tmp_path}")
    answer = call("run", *TINY, *common, "jobs=5", "threads=auto")
    assert answer.code == 0, answer.err
    assert [(each.jobs, each.threads) for each in executors] == [(2, 3)]
    run = only_run(tmp_path)
    for typed, said in (
        ("jobs=1000000", f"jobs=1000000: this machine has {cores()} cores"),
        (f"jobs={MOST + 1}", f"{MOST} at most"),
    ):
        refused = call("run", "--resume", run, typed)
        assert (refused.code, said in refused.err, refused.err.count("\n")) == (2, True, 1)
    # one that is left: one worker
    (run / "1_seed=1" / "summary.json").unlink()
    assert call("run", "--resume", run, "jobs=3").code == 0
    assert [(each.jobs, each.threads) for each in executors[1:]] == [(1, 6)]
    assert call("run", "--resume", run, "jobs=3").code == 0  # nothing is left
    assert len(executors) == 2


def test_threads_that_are_typed_are_those_of_each_worker(
    call: Call, tmp_path: Path, executors: list[Executor]
) -> None:
    answer = call("run", *TINY, "-m", "seed=0,1", "jobs=2", "threads=1", f"outputs={tmp_path}")
    assert answer.code == 0, answer.err
    assert [(each.jobs, each.threads) for each in executors] == [(2, 1)]
    run = only_run(tmp_path)
    refused = call("run", "--resume", run, f"jobs={MOST + 1}")
    assert (refused.code, f"{MOST} at most" in refused.err) == (2, True)


@pytest.mark.slow
def test_a_resumed_sweep_bounds_the_threads_of_all_its_members(
    call: Call, tmp_path: Path, executors: list[Executor]
) -> None:
    typed = ("-m", "seed=0", "threads=2", f"outputs={tmp_path}")
    assert call("run", *TINY, *typed).code == 0
    refused = call("run", "--resume", only_run(tmp_path), f"jobs={MOST}")
    assert (refused.code, f"threads=2 with jobs={MOST}: " in refused.err) == (2, True)


def test_a_pool_that_was_begun_elsewhere_is_kept() -> None:
    assert Pool(jobs=1_000_000).having({}).of(1, members=3).jobs == 3
    assert Pool(1_000_000, "local").having({}).of(1).jobs == 1_000_000


def test_a_member_that_is_resumed_keeps_what_was_settled(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: Iterator[str] = iter(("reverse", "forward"))

    def with_mode(config, data, model):  # noqa: ANN001, ANN202
        from dataclasses import replace

        mode = next(chosen)
        method = replace(config.method, mode=mode)
        return replace(config, method=method), f"method.mode={mode}: measured"

    auto = ("-m", "seed=0", "method.mode=auto", "method.clip_products=null", "threads=1")
    monkeypatch.setattr("hypergrad.drivers.context.with_mode", with_mode)
    monkeypatch.setattr(multirun, "look_at", lambda _: multirun.FirstLook({}, {}))
    assert call("run", *TINY, *auto, f"outputs={tmp_path}").code == 0
    run = only_run(tmp_path)
    member = RunDirectory.open(run / "0")
    assert load(member.config_text()).method.mode == "reverse"
    (member.path / "summary.json").unlink()
    assert call("run", "--resume", run).code == 0
    assert load(member.config_text()).method.mode == "reverse"
