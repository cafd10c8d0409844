"""What only a GPU can show (`-m gpu`): equality with the CPU, strategies, recorded steps, resume.

All in float64, where another order of summation is a matter of 1e-15 a step, not of signs. The way
there is short, for a kink of a ReLU or a tie in a pooling would be decided by less.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from problems import Problem, digits_problem
from tiny import Watcher, everything, go, new_run, table, tiny_context
from torch import Tensor, nn

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip, NoClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.schedule import Schedule
from hypergrad.curvature import STRATEGIES, gradient_and_products
from hypergrad.curvature.autotune import choose_strategy
from hypergrad.data import Augmentation, Images, Minibatches
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.runs.interrupt import Interrupt, Interrupted
from hypergrad.training.cuda_graph import Recorder
from hypergrad.training.differentiated_run import ForwardRun, ReverseRun, differentiated
from hypergrad.training.ensemble import EnsembleRun, JointRun
from hypergrad.training.graphed_step import Replay, replay_for
from hypergrad.training.host_sync import HostTraffic
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import InnerRun, ScheduledRun
from hypergrad.training.joint_descent import JointDescentRun

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
    # PyTorch warns where a library finds no context yet, and of its own prototypes.
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SCHEDULE = sgd_schedule((0.05, 0.1, 0.02), (0.5, 0.8), (1e-3,))
CLIPPED = ForwardOptions(clip_products=0.5, truncation=0.2)
CLIP = 0.05  # of the gradient, in the same runs
EPOCHS, STEPS, BATCH = 3, 20, 4
CLOSE = 1e-8  # 60 steps of float64 in another order
FITTING = {
    "mlp": STRATEGIES,
    "lenet": STRATEGIES,
    "wrn": tuple(name for name in STRATEGIES if name != "stacked"),
}
EACH = [(name, strategy) for name, strategies in FITTING.items() for strategy in strategies]


@pytest.fixture(autouse=True)
def _reproducible() -> Iterator[None]:
    """Convolutions by the same algorithm every time."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = before


def problem_on(device: str, name: str) -> Problem:
    options = {"mlp": {"hidden": 16}, "wrn": {"depth": 10}}.get(name, {})
    problem = digits_problem(name, **options)
    return moved(problem, device)


def moved(problem: Problem, device: str) -> Problem:
    return Problem(
        FlatModel(problem.model.module.to(device)),
        problem.theta.to(device),
        problem.images.to(device),
        problem.labels.to(device),
        problem.batch_size,
    )


def minibatches(problem: Problem) -> Minibatches:
    count = STEPS * BATCH
    images = Images(problem.images[:count], problem.labels[:count])
    return Minibatches(images, BATCH, (0, "gpu"), Augmentation(pad=1))


def inner(problem: Problem, clip: float | None) -> InnerProblem:
    given = problem.model, problem.theta, minibatches(problem)
    optimizer = InnerOptimizer(transform=NoClip() if clip is None else ElementwiseClip(clip))
    return InnerProblem.over_epochs(*given, EPOCHS, optimizer)


def forward_run(
    problem: Problem,
    options: ForwardOptions,
    replay: Replay | None = None,
    schedule: Schedule = SCHEDULE,
    clip: float | None = CLIP,
) -> ForwardRun:
    return ForwardRun(inner(problem, clip), schedule, options, replay=replay)


def recording(problem: Problem) -> Replay:
    return Replay(problem.model, Recorder(problem.theta.device, strict=True))


def finish(run: InnerRun) -> None:
    while not run.done:
        run.advance()


def hypergradients(run: ForwardRun | ReverseRun, problem: Problem) -> Tensor:
    finish(run)
    return torch.tensor(run.hypergradients(problem.validation).values, dtype=torch.float64)


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float = CLOSE) -> None:
    scale = theirs.abs().max()
    assert float((ours.cpu() - theirs.cpu()).abs().max() / scale) < tolerance


def with_strategy(options: ForwardOptions, strategy: str) -> ForwardOptions:
    return replace(options, strategy=strategy)


# Against the CPU


@pytest.mark.parametrize(("name", "strategy"), EACH)
def test_hypergradients_equal_those_on_the_cpu(name: str, strategy: str) -> None:
    options = ForwardOptions(clip_products=100.0, strategy=strategy)
    found = []
    for device in ("cpu", "cuda"):
        problem = problem_on(device, name)
        found.append(hypergradients(forward_run(problem, options, clip=3.0), problem))
    assert_close(found[1], found[0])


@pytest.mark.parametrize(("name", "strategy"), EACH)
def test_products_of_every_strategy_equal_those_of_the_loop(name: str, strategy: str) -> None:
    problem = problem_on("cuda", name)
    x, y = problem.images[:BATCH], problem.labels[:BATCH]
    Z = torch.randn(4, len(problem.theta), dtype=torch.float64, device="cuda")

    def loss(theta: Tensor) -> Tensor:
        return problem.model.loss(theta, (x, y))

    g, HZ = gradient_and_products(loss, problem.theta, Z, strategy)
    g_loop, HZ_loop = gradient_and_products(loss, problem.theta, Z, "loop")
    assert_close(g, g_loop, 1e-12)
    assert_close(HZ, HZ_loop, 1e-10)
    assert_close(Z @ HZ.T, HZ @ Z.T, 1e-10)  # u'Hv = v'Hu


def test_reverse_mode_equals_forward_mode() -> None:
    problem = problem_on("cuda", "wrn")
    found = [
        hypergradients(differentiated(inner(problem, 3.0), SCHEDULE, options), problem)
        for options in (ReverseOptions(), ForwardOptions())
    ]
    assert_close(found[0], found[1])


def test_a_strategy_is_chosen_by_a_trial() -> None:
    problem = problem_on("cuda", "wrn")
    choice = choose_strategy(problem.model, problem.theta, minibatches(problem).at(0), 4)
    assert set(choice.seconds) == set(FITTING["wrn"])
    assert choice.strategy in choice.seconds


# Recorded steps


@pytest.mark.parametrize(("name", "strategy"), EACH)
def test_recorded_steps_equal_called_ones(name: str, strategy: str) -> None:
    problem = problem_on("cuda", name)
    options = with_strategy(CLIPPED, strategy)
    replay = recording(problem)
    runs = forward_run(problem, options, replay), forward_run(problem, options)
    found = [hypergradients(run, problem) for run in runs]
    assert_close(found[0], found[1])
    assert replay._recorder.recorded >= 2
    weights = (run.state.optimized.tensors() for run in runs)
    for ours, theirs in zip(*weights, strict=True):
        assert_close(ours, theirs)
    for buffer, value in runs[1].state.buffers.items():
        assert_close(runs[0].state.buffers[buffer].double(), value.double())
    assert runs[0].cost() == runs[1].cost()
    assert runs[0].take_means() == pytest.approx(runs[1].take_means(), rel=1e-8)


def test_one_replay_serves_outer_steps_and_trainings_in_any_order() -> None:
    problem = problem_on("cuda", "wrn")
    replay = recording(problem)
    zeros = sgd_schedule((0.0,) * 3, (0.0,) * 2, (0.0,))
    schedules = zeros, SCHEDULE, sgd_schedule((0.02, 0.1, 0.05), (0.3,), ())
    for schedule in (*schedules, SCHEDULE):
        runs = [forward_run(problem, CLIPPED, each, schedule) for each in (replay, None)]
        ours, theirs = (hypergradients(run, problem) for run in runs)
        assert_close(ours, theirs)
        given = inner(problem, CLIP), schedule
        trained = ScheduledRun(*given, replay=replay), ScheduledRun(*given)
        for run in trained:
            finish(run)
        assert_close(trained[0].state.theta, trained[1].state.theta)


def test_a_recorded_run_goes_on_from_a_snapshot() -> None:
    problem = problem_on("cuda", "wrn")
    replay = recording(problem)
    whole = hypergradients(forward_run(problem, CLIPPED), problem)
    begun = forward_run(problem, CLIPPED, replay)
    for _ in range(17):
        begun.advance()
    tensors, scalars = begun.snapshot()
    saved = {name: tensor.cpu() for name, tensor in tensors.items()}
    finish(begun)
    for again in (replay, recording(problem)):
        resumed = forward_run(problem, CLIPPED, again)
        resumed.restore(saved, scalars)
        assert_close(hypergradients(resumed, problem), whole)


def test_dropout_draws_the_masks_that_it_would_draw() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 10))
    model = FlatModel(net.double())
    problem = digits_problem("mlp")._replace(model=model, theta=model.theta())
    problem = moved(problem, "cuda")
    found = []
    for replay in (recording(problem), None):
        torch.manual_seed(1)
        run = forward_run(problem, ForwardOptions(), replay, clip=None)
        found.append(hypergradients(run, problem))
    assert_close(found[0], found[1])


def joint(problem: Problem, kind: str, replay: Replay | None, scale: float) -> JointRun:
    """Three trainings at once, or three descents; `scale` gives others of the same kind."""
    given = inner(problem, 3.0)
    if kind == "ensemble":
        rates = (0.05 * scale, 0.1 * scale, 0.02 * scale)
        return EnsembleRun(given, [sgd_schedule((r,), (0.5,), (1e-3,)) for r in rates], replay)
    return JointDescentRun(
        given,
        minibatches(problem),
        outer_rates=(0.01 * scale, 0.02 * scale, 0.05 * scale),
        clip=0.5,
        learned={"learning_rate": True, "momentum": True},
        replay=replay,
    )


@pytest.mark.parametrize("kind", ["ensemble", "descent"])
@pytest.mark.parametrize("name", ["mlp", "lenet", "wrn"])
def test_recorded_ensembles_equal_called_ones(name: str, kind: str) -> None:
    problem = problem_on("cuda", name)
    replay = recording(problem)
    for scale in (1.0, 0.5):
        runs = [joint(problem, kind, each, scale) for each in (replay, None)]
        for run in runs:
            finish(run)
        assert replay._recorder.recorded == 1
        assert_close(runs[0].state.theta, runs[1].state.theta)
        assert runs[0].take_losses() == pytest.approx(runs[1].take_losses(), rel=1e-8)


class Looking(nn.Module):
    """Looks at a number on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x.flatten(1))
        return x if x.sum().item() < 1e9 else -x


def test_a_network_that_cannot_be_recorded_is_called_or_refused() -> None:
    model = FlatModel(Looking().double())
    problem = digits_problem("mlp")._replace(model=model, theta=model.theta())
    problem = moved(problem, "cuda")
    notes: list[str] = []
    replay = replay_for(problem.model, problem.theta.device, "auto", notes.append)
    runs = forward_run(problem, CLIPPED, replay), forward_run(problem, CLIPPED)
    ours, theirs = (hypergradients(run, problem) for run in runs)
    assert_close(ours, theirs)
    assert len(notes) == 1
    refusing = forward_run(problem, CLIPPED, recording(problem))
    with pytest.raises(ValueError, match="cannot be recorded"):
        refusing.advance()


def test_a_recording_that_fails_leaves_the_device_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the watch over host traffic had missed something that CUDA does not."""
    monkeypatch.setattr(HostTraffic, "_is_traffic", lambda *_: False)
    model = FlatModel(Looking().double())
    problem = digits_problem("mlp")._replace(model=model, theta=model.theta())
    problem = moved(problem, "cuda")
    notes: list[str] = []
    replay = Replay(problem.model, Recorder(problem.theta.device, note=notes.append))
    stream = torch.cuda.current_stream()
    runs = forward_run(problem, CLIPPED, replay), forward_run(problem, CLIPPED)
    ours, theirs = (hypergradients(run, problem) for run in runs)
    assert_close(ours, theirs)
    assert len(notes) == 1
    assert torch.cuda.current_stream() == stream


# Nothing waits


@pytest.mark.parametrize("kind", ["forward", "replayed", "training", "ensemble", "descent"])
def test_an_epoch_does_not_wait_for_the_device(kind: str) -> None:
    problem = problem_on("cuda", "wrn")
    own, training = inner(problem, CLIP), inner(problem, 3.0)
    runs: dict[str, InnerRun] = {
        "forward": ForwardRun(own, SCHEDULE, CLIPPED),
        "replayed": ForwardRun(own, SCHEDULE, CLIPPED, replay=recording(problem)),
        "training": ScheduledRun(training, SCHEDULE),
        "ensemble": EnsembleRun(training, [SCHEDULE] * 2),
        "descent": joint(problem, "descent", None, 1.0),
    }
    run = runs[kind]
    while run.step < 2 * STEPS + 1:  # an epoch begins with a copy of its order
        run.advance()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):  # of plans that have been recorded
            run.advance()
    finally:
        torch.cuda.set_sync_debug_mode("default")


# Whole runs


def test_a_run_on_a_gpu_comes_out_like_one_on_the_cpu(tmp_path: Path) -> None:
    found = []
    for device in ("cpu", "cuda"):
        setting = tiny_context(f"device={device}", "precision=float64", "repeats=1")
        run = new_run(*setting, tmp_path / device)
        go(setting[0], run)
        found.append(table(run, "outer"))
    for column in ("value", "hypergradient", "step_size"):
        pairs = zip(found[1][column], found[0][column], strict=True)
        assert all(math.isclose(a, b, rel_tol=1e-6) for a, b in pairs), column


def test_a_run_on_a_gpu_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    setting = tiny_context("device=cuda", "precision=float64", "repeats=1")
    whole, stopped = (new_run(*setting, tmp_path / name) for name in ("whole", "stopped"))
    go(setting[0], whole)
    interrupt = Interrupt()

    def stop(steps: int) -> None:
        if steps == 17:
            interrupt.requested = "SIGINT"

    with pytest.raises(Interrupted):
        go(setting[0], stopped, Watcher(stop), interrupt)
    go(setting[0], stopped, resume=True)
    assert everything(stopped).keys() == everything(whole).keys()
    assert len(table(stopped, "inner")) == len(table(whole, "inner"))
    pairs = zip(
        table(stopped, "outer")["hypergradient"],
        table(whole, "outer")["hypergradient"],
        strict=True,
    )
    assert all(math.isclose(a, b, rel_tol=1e-6) for a, b in pairs)
