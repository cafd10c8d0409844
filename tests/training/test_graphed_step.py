"""Replayed steps are the steps: to the last bit on a CPU, where what was recorded is called."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from problems import Problem, digits_problem
from tiny import Watcher, everything, go, new_run, tiny_context
from torch import Tensor, nn

from hypergrad import learn_schedule
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip, NoClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd_schedules import paper_optimizer, sgd_schedule
from hypergrad.core.schedule import Schedule
from hypergrad.data import Images, Minibatches
from hypergrad.differentiation.active_tangents import spans
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.runs.interrupt import Interrupt, Interrupted
from hypergrad.training.cuda_graph import WARM_UP, Recorder
from hypergrad.training.differentiated_run import ForwardRun
from hypergrad.training.graphed_step import Replay, replay_for
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import ScheduledRun

SCHEDULE = sgd_schedule((0.05, 0.1, 0.02), (0.5, 0.8), (1e-3,))
REDUCED = ForwardOptions(precision="bfloat16")
CLIPPED = ForwardOptions(clip_products=0.5, truncation=0.2)
CLIP = 0.05
EPOCHS, STEPS = 3, 20


def on_digits(net: nn.Module) -> Problem:
    model = FlatModel(net.double())
    return digits_problem("mlp")._replace(model=model, theta=model.theta())


def normalised() -> Problem:
    """The smallest network with running statistics."""
    torch.manual_seed(0)
    layers = nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 10)
    return on_digits(nn.Sequential(nn.Flatten(), *layers))


def minibatches(problem: Problem, size: int = 4) -> Minibatches:
    images = Images(problem.images[: STEPS * size], problem.labels[: STEPS * size])
    return Minibatches(images, size, (0, "replay"))


def inner(problem: Problem, clip: float | None) -> InnerProblem:
    given = problem.model, problem.theta, minibatches(problem)
    optimizer = InnerOptimizer(transform=NoClip() if clip is None else ElementwiseClip(clip))
    return InnerProblem.over_epochs(*given, EPOCHS, optimizer)


def forward_run(
    problem: Problem,
    options: ForwardOptions,
    replay: Replay | None = None,
    schedule: Schedule = SCHEDULE,
) -> ForwardRun:
    exact = ForwardOptions(strategy=options.strategy)  # of which the gradient is not clipped either
    clip = None if options == exact else CLIP
    return ForwardRun(inner(problem, clip), schedule, options, replay=replay)


def fresh(problem: Problem) -> Replay:
    return Replay(problem.model, Recorder(torch.device("cpu"), strict=True))


def finish(run: ScheduledRun) -> None:
    while not run.done:
        run.advance()


def snapshot(run: ScheduledRun) -> dict[str, object]:
    tensors, scalars = run.snapshot()
    return {name: tensor.tolist() for name, tensor in tensors.items()} | scalars


def assert_same(ours: ScheduledRun, theirs: ScheduledRun, problem: Problem) -> None:
    assert snapshot(ours) == snapshot(theirs)
    if isinstance(ours, ForwardRun) and isinstance(theirs, ForwardRun):
        found = [run.hypergradients(problem.validation) for run in (ours, theirs)]
        assert found[0].values == found[1].values
        assert found[0].diagnostics == found[1].diagnostics
    assert ours.take_means() == theirs.take_means()


@pytest.mark.parametrize(
    ("name", "settings", "strategies", "options"),
    [
        ("mlp", {"hidden": 8}, ("loop", "vmap", "stacked", "fused"), ForwardOptions()),
        ("mlp", {"hidden": 8}, ("loop", "vmap", "stacked", "fused"), CLIPPED),
        ("lenet", {}, ("fused",), CLIPPED),
        pytest.param("lenet", {}, ("loop", "stacked"), CLIPPED, marks=pytest.mark.slow),
        ("mlp", {"hidden": 8, "dtype": torch.float32}, ("loop", "stacked"), REDUCED),
        pytest.param("wrn", {"depth": 10}, ("fused",), CLIPPED, marks=pytest.mark.slow),
        pytest.param("wrn", {"depth": 10}, ("loop", "vmap"), CLIPPED, marks=pytest.mark.slow),
    ],
)
def test_a_replayed_run_is_the_run(
    name: str, settings: dict[str, int], strategies: tuple[str, ...], options: ForwardOptions
) -> None:
    problem = digits_problem(name, **settings)
    for strategy in strategies:
        chosen = replace(options, strategy=strategy)
        replay = fresh(problem)
        runs = forward_run(problem, chosen, replay), forward_run(problem, chosen)
        for run in runs:
            finish(run)
        assert_same(*runs, problem)
        assert 3 <= replay._recorder.recorded < 12  # fewer plans than steps


def test_one_replay_serves_runs_that_follow_one_another() -> None:
    problem = normalised()
    replay = fresh(problem)
    zeros = sgd_schedule((0.0,) * 3, (0.0,) * 2, (0.0,))
    for schedule in (zeros, SCHEDULE, sgd_schedule((0.1,), (0.9,), ())):
        for options in (ForwardOptions(), CLIPPED):
            runs = [forward_run(problem, options, each, schedule) for each in (replay, None)]
            for run in runs:
                finish(run)
            assert_same(*runs, problem)
    given = inner(problem, CLIP), SCHEDULE
    trained = ScheduledRun(*given, replay=replay), ScheduledRun(*given)
    for run in trained:
        finish(run)
    assert_same(*trained, problem)


@pytest.mark.parametrize("stop", [1, 20, 47])
def test_a_replayed_run_goes_on_from_a_snapshot(stop: int) -> None:
    problem = normalised()
    replay = fresh(problem)
    whole, begun = forward_run(problem, CLIPPED), forward_run(problem, CLIPPED, replay)
    for _ in range(stop):
        begun.advance()
    saved = begun.snapshot()
    finish(begun)  # which must not change what was saved
    for again in (None, replay, fresh(problem), None):  # none of which changes what was saved
        resumed = forward_run(problem, CLIPPED, again)
        resumed.restore(*saved)
        finish(resumed)
        if not whole.done:
            finish(whole)
            expected = snapshot(whole), whole.hypergradients(problem.validation).values
        assert (snapshot(resumed), resumed.hypergradients(problem.validation).values) == expected


def test_what_a_run_found_outlives_the_next_run() -> None:
    problem = normalised()
    replay = fresh(problem)
    first = forward_run(problem, ForwardOptions(), replay)
    finish(first)
    found = first.hypergradients(problem.validation)
    before = found.state.theta.clone(), {n: b.clone() for n, b in found.state.buffers.items()}
    finish(forward_run(problem, ForwardOptions(), replay, sgd_schedule((0.3,), (), ())))
    assert found.state.theta.equal(before[0])
    assert all(found.state.buffers[name].equal(buffer) for name, buffer in before[1].items())
    assert problem.theta.equal(problem.model.theta())


def test_a_run_whose_tensors_were_taken_over_goes_no_further() -> None:
    problem = digits_problem("mlp", hidden=8)
    replay = fresh(problem)
    first = forward_run(problem, ForwardOptions(), replay)
    forward_run(problem, ForwardOptions(), replay).advance()
    with pytest.raises(AssertionError, match="taken the tensors over"):
        first.advance()


def test_dropout_draws_new_masks_in_every_replayed_step() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 10))
    problem = on_digits(net)
    runs = []
    for replay in (fresh(problem), None):
        torch.manual_seed(1)
        runs.append(forward_run(problem, ForwardOptions(), replay))
        finish(runs[-1])
    assert_same(*runs, problem)


class Counting(nn.Module):
    """Looks at a number on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x.flatten(1))
        return x if x.sum().item() < 1e9 else -x


def averaging() -> nn.Module:
    """Batch normalisation that counts its batches on the host, to average them all alike."""
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64, momentum=None), nn.Linear(64, 10))


@pytest.mark.parametrize("make", [Counting, averaging])
def test_a_step_that_reads_numbers_back_is_called_after_one_note(
    make: Callable[[], nn.Module],
) -> None:
    problem = on_digits(make())
    model = problem.model
    notes: list[str] = []
    replay = Replay(model, Recorder(torch.device("cpu"), note=notes.append))
    runs = forward_run(problem, CLIPPED, replay), forward_run(problem, CLIPPED)
    for run in runs:
        finish(run)
    assert_same(*runs, problem)
    (note,) = notes
    assert "goes through the host (aten._local_scalar_dense)" in note
    assert "replay=never" in note


def test_a_step_that_reads_numbers_back_is_refused_where_replay_was_asked_for() -> None:
    problem = on_digits(Counting())
    replay = replay_for(problem.model, torch.device("cpu"), "always", print)
    run = forward_run(problem, CLIPPED, replay)
    with pytest.raises(ValueError, match=r"replay=always.*_local_scalar_dense"):
        run.advance()


def test_replay_is_automatic_where_there_is_something_to_gain() -> None:
    model = digits_problem("mlp").model
    cpu = torch.device("cpu")
    assert replay_for(model, cpu, "auto", print) is None
    assert replay_for(model, cpu, "never", print) is None
    assert isinstance(replay_for(model, cpu, "always", print), Replay)
    with pytest.raises(ValueError, match="unknown replay 'yes'"):
        replay_for(model, cpu, "yes", print)


def test_a_step_is_called_a_few_times_and_then_replayed() -> None:
    """The function of the recording is what is replayed; later ones are not looked at."""
    recorder = Recorder(torch.device("cpu"), strict=True)
    calls: list[int] = []
    for number in range(WARM_UP + 4):
        recorder.run("a", lambda number=number: calls.append(number))
        recorder.run("b", lambda: None)
    assert calls == [*range(WARM_UP), *[WARM_UP] * 4]
    assert recorder.recorded == 2
    recorder.forget()
    recorder.run("a", lambda: calls.append(-1))
    assert calls[-1] == -1


def test_spans_cover_the_rows() -> None:
    for rows in [(), (3,), (0, 1, 2), (0, 2, 3, 7)]:
        assert [row for span in spans(rows) for row in range(span.start, span.stop)] == list(rows)


def test_the_driver_writes_the_same_files_with_replay(tmp_path: Path) -> None:
    written = []
    for replay in ("never", "always"):
        setting = tiny_context(f"replay={replay}")
        run = new_run(*setting, tmp_path / replay)
        go(setting[0], run)
        written.append(everything(run))
    assert written[0] == written[1]


def test_a_replayed_driver_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    setting = tiny_context("replay=always", "repeats=1")
    whole, stopped = (new_run(*setting, tmp_path / name) for name in ("whole", "stopped"))
    go(setting[0], whole)
    interrupt = Interrupt()

    def stop(steps: int) -> None:
        if steps == 17:  # in the third outer step, whose plans are recorded
            interrupt.requested = "SIGINT"

    with pytest.raises(Interrupted):
        go(setting[0], stopped, Watcher(stop), interrupt)
    go(setting[0], stopped, resume=True)
    assert everything(stopped) == everything(whole)


def test_a_schedule_for_ones_own_model_is_the_same_with_replay() -> None:
    problem = normalised()
    found = [
        learn_schedule(
            problem.model.module,
            problem.images[:100],
            problem.labels[:100],
            epochs=2,
            batch_size=10,
            outer_steps=3,
            optimizer=paper_optimizer((2, 1, 1), clip=3.0),
            validation=0.2,
            replay=replay,
        )
        for replay in ("never", "always")
    ]
    assert found[0] == found[1]
