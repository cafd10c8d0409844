"""Threads: those that are faster, before anything is timed with them; workers share the cores."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import setting
from tiny import OVERRIDES, tiny_context

from hypergrad.config.composition import compose
from hypergrad.differentiation.mode import StepSeconds
from hypergrad.drivers import probe, threads
from hypergrad.drivers.context import make_model, prepare
from hypergrad.drivers.execute import new_run
from hypergrad.drivers.settle import settle
from hypergrad.drivers.threads import (
    fastest_threads,
    with_threads,
    worker_count,
    worker_threads,
)


def test_threads_are_taken_where_they_are_clearly_faster() -> None:
    seconds = {1: 0.02, 3: 0.01}
    before = torch.get_num_threads()

    def step() -> None:
        time.sleep(seconds[torch.get_num_threads()])

    count, why = fastest_threads(step, 3)
    assert count == 3
    assert "ms with one" in why
    seconds[3] = 0.019
    assert fastest_threads(step, 3)[0] == 1
    assert torch.get_num_threads() == before


def test_the_mode_is_probed_with_the_threads_that_the_run_will_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def step_seconds(*_: object, **__: object) -> StepSeconds:
        seen.append(torch.get_num_threads())
        return StepSeconds(1.0, 5.0, 2.0, 1.0)

    monkeypatch.setattr(probe, "step_seconds", step_seconds)
    monkeypatch.setattr(threads, "fastest_threads", lambda step, most: (1, f"tried {most}"))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        auto = ("method.mode=auto", "method.clip_products=null", "threads=auto")
        context, _ = tiny_context(*auto)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1]
    assert (context.config.method.mode, context.config.threads) == ("reverse", "1")
    assert context.remarks[0] == "threads=1: tried 2"


def test_a_number_stays_and_ray_decides_for_its_workers() -> None:
    context, _ = tiny_context("threads=1")
    model = make_model(context.config, context.data, 0)
    assert with_threads(context.config, context.data, model) == (context.config, ())
    assert worker_threads("3", "local", 2) == 3
    assert worker_threads("auto", "ray", 2) is None


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 6)
    assert [worker_threads("auto", "local", workers) for workers in (1, 2, 4, 9)] == [6, 3, 1, 1]


@pytest.mark.parametrize(
    ("overrides", "workers"),
    [
        (("search.grid.factor=[0.1]", "repeats=1"), 2),  # two trials
        ((), 5),
        (("search=random", "search.trials=2", "repeats=1"), 2),
        (("search=random", "budget=1h"), 5),  # as many trials as there is time for
        (("search=random", "budget=1h", "search.trials=1", "repeats=2"), 2),
        (("search=random", "budget=3trials", "repeats=1"), 3),
    ],
)
def test_a_search_has_no_more_workers_than_trials(
    overrides: tuple[str, ...], workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 10)
    context, text = setting("jobs=5", "threads=auto", *overrides)
    assert worker_count(context.config, context.plan) == workers
    run = new_run(replace(context.config, outputs=str(tmp_path)), text, [])
    settled = settle(context, run)
    assert settled.config.threads == str(10 // workers)
    assert f"each of {workers} processes" in settled.remarks[0]


def test_a_study_has_no_more_workers_than_repeats() -> None:
    few = ["hypervariance.perturbations=[weights]", "repeats=3", "jobs=8", "data=digits"]
    context = prepare(compose("fig2", [*few, "model=mlp", "scale=smoke"])[0])
    assert worker_count(context.config, context.plan) == 3
    context = prepare(compose("from_zero", OVERRIDES)[0])
    assert worker_count(context.config, context.plan) == 1
