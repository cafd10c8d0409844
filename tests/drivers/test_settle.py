"""What `auto` becomes: a mode and a number of threads, once, written into the run."""

from pathlib import Path

import pytest
import torch
from tiny import DROPOUT, OVERRIDES, tiny_context

from hypergrad.config.composition import compose, load
from hypergrad.differentiation.mode import StepSeconds
from hypergrad.drivers import context as contexts
from hypergrad.drivers import modes, probe, threads
from hypergrad.drivers.context import prepare
from hypergrad.drivers.execute import execute, new_run
from hypergrad.runs.directory import RunDirectory


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[StepSeconds]:
    """What a probe finds: the last one in the list."""
    found = [StepSeconds(1.0, 5.0, 2.0, 1.0)]
    monkeypatch.setattr(probe, "step_seconds", lambda *_, **__: found[-1])
    return found


def mode_of(*overrides: str) -> tuple[str, str]:
    context, _ = tiny_context("method.mode=auto", *overrides)
    return context.config.method.mode, context.remarks[-1]


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
    states_alone = "method.clip_products=null", "reverse.keep_graphs=false"
    steps.append(StepSeconds(1.0, 2.5, 2.0, 1.0))
    assert mode_of(*states_alone)[0] == "forward"
    steps.append(StepSeconds(1.0, 3.5, 2.0, 1.0))
    assert mode_of(*states_alone)[0] == "reverse"
    # Few states: nearly every step is taken again.
    assert mode_of(*states_alone, "reverse.memory_gb=2.6e-5")[0] == "forward"


def test_the_noise_of_a_probe_does_not_decide(steps: list[StepSeconds]) -> None:
    states_alone = "method.clip_products=null", "reverse.keep_graphs=false"
    for forward, mode in ((3.3, "forward"), (3.4, "reverse")):  # reverse mode takes 3.0
        steps.append(StepSeconds(1.0, forward, 2.0, 1.0))
        assert mode_of(*states_alone)[0] == mode


def test_a_graph_that_is_kept_is_a_gradient_less(steps: list[StepSeconds]) -> None:
    steps.append(StepSeconds(1.0, 2.5, 2.0, 1.0))
    mode, remark = mode_of("method.clip_products=null")
    assert mode == "reverse"  # 2.0, not 3.0
    assert "all 10 states, 10 graphs" in remark


def test_dropout_takes_forward_mode(
    steps: list[StepSeconds], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dropnets.py").write_text(DROPOUT)
    monkeypatch.chdir(tmp_path)
    custom = ["model=custom", "model.name=dropnets:Net", "hvp.strategy=loop"]
    small = [each for each in OVERRIDES if "hidden" not in each]
    free = ["method.mode=auto", "method.clip_products=null", "threads=1"]
    context = prepare(compose("from_zero", [*small, *custom, *free])[0])
    assert context.config.method.mode == "forward"
    assert "(Dropout) draws random numbers" in context.remarks[-1]
    model = contexts.make_model(context.config, context.data, 0)
    found = probe.probe(context.config, context.data, model)
    costs = modes.mode_costs(context.config, context.data, model, found)
    assert "draws random numbers" in str(costs["reverse"])


def test_what_was_settled_is_kept_by_a_resume(
    tmp_path: Path,
    steps: list[StepSeconds],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = [*OVERRIDES, "repeats=1", "method.mode=auto", "method.clip_products=null"]
    overrides += ["threads=auto", f"outputs={tmp_path}"]
    config, text = compose("from_zero", overrides)
    monkeypatch.setattr(threads, "fastest_threads", lambda *_: (1, "tried"))
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
        "threads=1",
        "method.mode=reverse",
    ]
    assert "threads=1: tried" in capsys.readouterr().err
    steps.append(StepSeconds(1.0, 1.5, 2.0, 1.0))  # would choose otherwise now
    assert prepare(kept).config.method.mode == "reverse"


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
    states = (horizon + 2) * 2 * size
    assert (forward.note, reverse.note) == (
        "4 tangents, whatever the horizon",
        f"all {horizon} states, {horizon} graphs",
    )
    # A graph holds its gradient, and the images of its minibatch at least; not much more.
    least = size + context.config.method.batch_size * 64 * 4
    assert least < (reverse.bytes - states) / horizon < 2 * least
    given = context.config, context.data, model, found
    room = modes.mode_costs(*given, memory_gb=(states + 3.5 * (reverse.bytes - states) / 10) / 1e9)
    assert "10 states, 3 graphs" in str(room["reverse"])
    alone, _ = tiny_context("method.clip_products=null", "reverse.keep_graphs=false")
    costs = modes.mode_costs(alone.config, context.data, model, found)
    assert not isinstance(costs["reverse"], str)
    assert (costs["reverse"].bytes, costs["reverse"].note) == (states, f"all {horizon} states")
