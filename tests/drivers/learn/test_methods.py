"""The driver by method: unshared values in reverse mode, hd alone, and what is said aloud."""

import contextlib
import math
from pathlib import Path

import pytest
import torch
from tiny import Crash, Watcher, everything, go, new_run, table, tiny_context

from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.data import Minibatches
from hypergrad.differentiation import reverse
from hypergrad.differentiation.result import Hypergradients
from hypergrad.drivers.context import make_model
from hypergrad.drivers.inner_optimizer import inner_optimizer
from hypergrad.drivers.learn.driver import LearnDriver
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.interrupt import Interrupt, Interrupted
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import ScheduledRun

UNSHARED = (
    "method=unshared",
    "method.batch_size=32",
    "hyperparameters.momentum.count=0",
    "reverse.memory_gb=5e-5",
)
STEPS = 2 * (190 // 32)


@pytest.fixture(scope="module")
def setting() -> tuple:
    return tiny_context(*UNSHARED)


@pytest.fixture(scope="module")
def whole(setting: tuple, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = new_run(*setting, tmp_path_factory.mktemp("whole"))
    go(setting[0], run)
    return run


def test_unshared_values_are_one_a_step(whole: RunDirectory) -> None:
    outer = table(whole, "outer")
    sizes = outer.groupby(["seed", "outer_step", "kind"]).size()
    assert set(outer["kind"]) == {"learning_rate", "weight_decay"}  # momenta=0: not learned
    assert (sizes == STEPS).all()
    assert (outer["contributing_steps"] == 1).all()
    assert outer["clipped_products"].isna().all()
    rows = outer.query("seed == 0 and outer_step == 1 and kind == 'learning_rate'")
    assert rows["end_epoch"].tolist() == [2 * (i + 1) / STEPS for i in range(STEPS)]


def test_logged_hypergradients_are_those_of_the_library(
    setting: tuple, whole: RunDirectory
) -> None:
    config, data = setting[0].config, setting[0].data
    rows = table(whole, "outer").query("seed == 1 and outer_step == 2")
    values = [rows[rows["kind"] == kind]["value"] for kind in ("learning_rate", "weight_decay")]
    schedule = sgd_schedule(tuple(values[0]), (), tuple(values[1]))
    from hypergrad.data import in_even_batches, train_validation_split

    train, held_out = train_validation_split(len(data.train), 0.05, seed=1, outer_step=2)
    model = make_model(config, data, 1)
    minibatches = Minibatches(data.train.take(train), 32, (1, "ours", 2))
    found = reverse.hypergradients(
        model, model.theta(), minibatches.at, list(in_even_batches(data.train.take(held_out), 5)),
        schedule, STEPS, optimizer=inner_optimizer(config),
    )  # fmt: skip
    assert rows["hypergradient"].tolist() == list(found.values)


@pytest.mark.parametrize("seed", range(3))
def test_crashes_there_and_back_leave_no_trace(
    setting: tuple, whole: RunDirectory, tmp_path: Path, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    run = new_run(*setting, tmp_path)
    for attempt in range(100):
        fatal = int(torch.randint(1, 60, (), generator=generator))

        def crash(steps: int, fatal: int = fatal) -> None:
            if steps == fatal:
                raise Crash

        with contextlib.suppress(Crash):
            go(setting[0], run, Watcher(crash), resume=attempt > 0)
            break
    assert attempt > 1
    assert everything(run) == everything(whole)


def test_a_stop_on_the_way_back_is_answered_there(
    setting: tuple, whole: RunDirectory, tmp_path: Path
) -> None:
    run = new_run(*setting, tmp_path)
    interrupt = Interrupt()
    steps = 0

    def stop(count: int) -> None:
        nonlocal steps
        steps = count
        if count == STEPS + 3:  # three steps back into the first outer step
            interrupt.requested = "SIGINT"

    with pytest.raises(Interrupted):
        go(setting[0], run, Watcher(stop), interrupt)
    assert steps == STEPS + 3
    watcher = Watcher()
    go(setting[0], run, watcher, resume=True)
    assert everything(run) == everything(whole)
    assert watcher.costs[-1] == pytest.approx(2 * setting[0].plan.cost)


def test_a_crash_on_the_way_back_repeats_what_was_not_saved_alone(
    whole: RunDirectory, tmp_path: Path
) -> None:
    given, text = tiny_context(*UNSHARED, "checkpoint_seconds=0")
    undisturbed = Watcher()
    go(given, new_run(given, text, tmp_path / "undisturbed"), undisturbed)
    fatal = STEPS + 5  # of the first outer step, five steps back

    def crash(steps: int) -> None:
        if steps == fatal:
            raise Crash

    run, watcher = new_run(given, text, tmp_path), Watcher()
    with pytest.raises(Crash):
        go(given, run, Watcher(crash))
    go(given, run, watcher, resume=True)
    assert watcher.steps == undisturbed.steps - (fatal - 1)
    assert everything(run) == everything(whole)


def test_shared_values_learned_in_either_mode_are_the_same(tmp_path: Path) -> None:
    """Truncated, and with steps that are taken again."""
    common = "method.clip_products=null", "method.truncation=0.3", "precision=float64"
    modes = ("method.mode=forward",), ("method.mode=reverse", "reverse.memory_gb=2e-4")
    found = []
    for number, mode in enumerate(modes):
        given, text = tiny_context(*common, *mode)
        run = new_run(given, text, tmp_path / str(number))
        go(given, run)
        found.append(table(run, "outer"))
    for name in ("value", "contributing_steps", "step_size"):
        assert found[1][name].tolist() == pytest.approx(found[0][name].tolist(), rel=1e-9)
    ours, theirs = (each["hypergradient"].tolist() for each in reversed(found))
    assert ours == pytest.approx(theirs, rel=1e-8, abs=1e-14)


def test_hd_alone_writes_no_outer_step(tmp_path: Path) -> None:
    setting = tiny_context(
        "method=hd", "method.batch_size=32", "hyperparameters.weight_decay.count=0"
    )
    run = new_run(*setting, tmp_path)
    loop = go(setting[0], run)
    assert [r["method"] for r in loop.progress.results] == ["hd", "hd_retrained", "sgd"] * 2
    assert table(run, "outer").empty
    hd = table(run, "hd")
    assert (hd["weight_decay"] == 0).all()  # not learned
    assert (hd.query("step == 9")["momentum"] != 0).all()
    assert run.read_json("schedule.json")["schedules"] == []


def test_patience_ends_the_outer_loop(tmp_path: Path) -> None:
    # steps so small that nothing changes: the first outer step stays the best
    kinds = ("learning_rate", "momentum", "weight_decay")
    tiny = [f"hyperparameters.{kind}.first_move=1e-12" for kind in kinds]
    setting = tiny_context("outer.steps=9", "outer.patience=2", "repeats=1", *tiny)
    watcher = Watcher()
    run = new_run(*setting, tmp_path)
    go(setting[0], run, watcher)
    best = run.read_json("schedule.json")["schedules"][0]["outer_step"]
    assert table(run, "outer")["outer_step"].max() == best + 2 < 8
    assert "no better validation accuracy in 2 outer steps" in watcher.notes


def test_trust_is_logged_beside_every_hypergradient(tmp_path: Path) -> None:
    setting = tiny_context(
        "repeats=1", "method.validation_fraction=0.5", "method.clip_gradient=0.05"
    )
    run = new_run(*setting, tmp_path)
    go(setting[0], run)
    outer = table(run, "outer")
    assert (outer.query("outer_step > 0 or kind == 'learning_rate'")["signal_to_noise"] > 0).all()
    assert outer["clipped_gradients"].between(1e-4, 0.9).all()
    assert (outer["not_finite"] == 0).all()
    assert outer["not_finite_step"].isna().all()
    first = outer[outer["outer_step"] == 0]
    assert first["clipped_products"].isna().all()  # no product was taken
    assert (outer[outer["outer_step"] > 0]["clipped_products"] == 0).all()


def found_with(values: tuple[float, ...], found: Hypergradients) -> Hypergradients:
    return found._replace(values=values)


@pytest.mark.parametrize("lost", [1, 4])
def test_what_is_not_finite_is_said_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """Some lost: those stand still. All lost: half of the last move is taken back."""
    setting = tiny_context("repeats=1", "outer.steps=3")
    run = new_run(*setting, tmp_path)
    original = LearnDriver._complain
    watcher = Watcher()
    from hypergrad.drivers.learn.inner_loop import RecordedInnerLoop

    def spoilt(self: RecordedInnerLoop, inner: object, validation: object) -> Hypergradients:
        found = untouched(self, inner, validation)  # type: ignore[arg-type]
        if self.progress.outer_step != 1:
            return found
        return found_with((math.nan,) * lost + found.values[lost:], found)

    untouched = RecordedInnerLoop.differentiate
    monkeypatch.setattr(RecordedInnerLoop, "differentiate", spoilt)
    go(setting[0], run, watcher)
    assert original is LearnDriver._complain
    notes = [note for note in watcher.notes if not note.startswith("start-up test")]
    outer = table(run, "outer")
    before, after = (outer[outer["outer_step"] == n]["value"].tolist() for n in (1, 2))
    if lost == 1:
        assert after[0] == before[0]
        assert after[1] != before[1]
        assert notes == [
            "outer step 1: the hypergradient of learning_rate[0] is nan, and moves nothing"
        ]
    else:
        assert after == [value / 2 for value in before]
        assert notes[0] == "outer step 1: the hypergradient of learning_rate[0] is nan"
        assert notes[3] == "... and 1 more: not_finite in outer.csv"
        assert "half of the last move is taken back" in notes[4]


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (("method.mode=reverse",), "method.clip_products=null, and perhaps reverse.clip_adjoints"),
        (("reverse.clip_adjoints=10",), "is for method.mode=reverse"),
        (("method=unshared", "method.mode=forward"), "a tangent for every inner step"),
        (("method=unshared", "outer.first_horizons=[1]"), r"outer.first_horizons=\[\]"),
        (("method=unshared", "hvp.precision=bfloat16"), "reverse mode has exact products"),
        (("method=hd", "hvp.precision=bfloat16"), "has no Hessian products"),
        (("precision=float64", "hvp.precision=bfloat16"), "use hvp.precision=null"),
        (("hvp.precision=tf32", "device=cpu"), "needs a CUDA device"),
        (("jobs=2",), "use threads=N"),
        (("executor=ray",), "drop it"),
        (("method=unshared", "reverse.memory_gb=1e-9"), "raise it"),
        (("outer.patience=0",), "at least 1"),
        (("method.name=other",), "use one of shared, unshared, hd"),
    ],
)
def test_what_does_not_fit_together(overrides: tuple[str, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        tiny_context(*overrides)


def test_a_snapshot_is_not_moved_by_the_steps_after_it() -> None:
    setting, _ = tiny_context()
    model = make_model(setting.config, setting.data, 0)
    minibatches = Minibatches(setting.data.train, 32, (0,))
    problem = InnerProblem.over_epochs(model, model.theta(), minibatches, 2)
    inner = ScheduledRun(problem, sgd_schedule((0.1,), (), ()))
    inner.advance()
    tensors, _ = inner.snapshot()
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    inner.advance()
    assert all(torch.equal(tensors[name], kept[name]) for name in kept)
