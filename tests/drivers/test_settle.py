"""What `auto` becomes: a mode and a number of threads, once, written into the run."""

import time
from pathlib import Path

import pytest
import torch
from tiny import OVERRIDES, tiny_context

from hypergrad.config.checks import ConfigError, cores
from hypergrad.config.composition import compose, load
from hypergrad.differentiation.mode import StepSeconds
from hypergrad.drivers import context as contexts
from hypergrad.drivers import modes, probe, settle
from hypergrad.drivers.context import prepare
from hypergrad.drivers.execute import execute, new_run
from hypergrad.drivers.threads import fastest_threads, worker_threads
from hypergrad.runs.directory import RunDirectory


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[StepSeconds]:
    """What a probe finds: the last one in the list."""
    found = [StepSeconds(1.0, 5.0, 2.0)]
    monkeypatch.setattr(probe, "step_seconds", lambda *_, **__: found[-1])
    return found


def mode_of(*overrides: str) -> tuple[str, str]:
    context, _ = tiny_context("method.mode=auto", *overrides)
    return context.config.method.mode, context.remarks[0]


@pytest.mark.parametrize(
    ("overrides", "mode", "why"),
    [
        (("method.clip_products=null",), "reverse", "ms in reverse, with"),
        ((), "forward", "c_HZ"),
        (("method.clip_products=null", "hvp.precision=bfloat16"), "forward", "products are exact"),
        (("method=unshared", "outer.first_horizons=[]"), "reverse", "every inner step"),
        (
            ("method.clip_products=null", "reverse.memory_gb=1e-6"),
            "forward",
            "even with checkpoint",
        ),
    ],
)
def test_the_faster_mode_is_taken_where_it_can(
    steps: list[StepSeconds], overrides: tuple[str, ...], mode: str, why: str
) -> None:
    found, remark = mode_of(*overrides)
    assert found == mode
    assert remark.startswith(f"method.mode={mode}: ")
    assert why in remark


def test_the_slower_mode_is_not(steps: list[StepSeconds]) -> None:
    steps.append(StepSeconds(1.0, 2.5, 2.0))
    assert mode_of("method.clip_products=null")[0] == "forward"
    steps.append(StepSeconds(1.0, 3.5, 2.0))
    assert mode_of("method.clip_products=null")[0] == "reverse"
    # Few states: nearly every step is taken again.
    assert mode_of("method.clip_products=null", "reverse.memory_gb=2.6e-5")[0] == "forward"


def test_dropout_takes_forward_mode(
    steps: list[StepSeconds], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts.FlatModel, "random_source", lambda *_: "Dropout of layers.1")
    mode, remark = mode_of("method.clip_products=null")
    assert mode == "forward"
    assert "Dropout of layers.1 draws random numbers" in remark


def test_what_was_settled_is_kept_by_a_resume(
    tmp_path: Path,
    steps: list[StepSeconds],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = [*OVERRIDES, "repeats=1", "method.mode=auto", "method.clip_products=null"]
    overrides += ["threads=auto", f"outputs={tmp_path}"]
    config, text = compose("quickstart", overrides)
    monkeypatch.setattr(settle, "fastest_threads", lambda *_: (1, "tried"))
    run = new_run(config, text, overrides)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert execute(prepare(config), run, ["test"]) == 0
    finally:
        torch.set_num_threads(before)
    kept = load(RunDirectory.open(run.path).config_text())
    assert (kept.method.mode, kept.threads) == ("reverse", "1")
    assert run.overrides() == overrides
    assert [line.split(":")[0] for line in run.read_summary()["settled"]] == [
        "method.mode=reverse",
        "threads=1",
    ]
    assert "threads=1: tried" in capsys.readouterr().err
    steps.append(StepSeconds(1.0, 1.5, 2.0))  # would choose otherwise now
    assert prepare(kept).config.method.mode == "reverse"


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


@pytest.mark.parametrize("key", ["threads", "jobs"])
def test_absurd_numbers_are_refused_before_anything_runs(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}=1000000: this machine has {cores()} cores"):
        compose("baselines/digits", [f"{key}=1000000"])


def test_workers_share_the_cores() -> None:
    config, _ = compose("baselines/digits", ["threads=auto", "jobs=2"])
    assert worker_threads(config) == max(1, cores() // 2)
    config, _ = compose("baselines/digits", ["threads=3", "jobs=2"])
    assert worker_threads(config) == 3
    config, _ = compose("baselines/digits", ["threads=auto", "jobs=2", "executor=ray"])
    assert worker_threads(config) is None


def test_costs_of_modes_name_their_memory(steps: list[StepSeconds]) -> None:
    context, _ = tiny_context("method.clip_products=null")
    model = contexts.make_model(context.config, context.data, 0)
    found = probe.probe(context.config, context.data, model)
    costs = modes.mode_costs(context.config, context.data, model, found)
    forward, reverse = costs["forward"], costs["reverse"]
    assert not isinstance(forward, str)
    assert not isinstance(reverse, str)
    size, horizon = model.size * 4, probe.horizon_of(context.config, 200)
    assert forward.bytes == 5 * 4 * size
    assert reverse.bytes == (horizon + 2) * 2 * size
    assert (forward.note, reverse.note) == (
        "4 tangents, whatever the horizon",
        f"all {horizon} states",
    )
