"""Inner steps keep device and host apart: what a GPU would wait for is found without one.

Twice: on the CPU, where every operation is seen that reads a number back or makes a tensor of
numbers; and on PyTorch's `meta` device, which holds no data, so that nothing can be read from it,
and where every tensor that comes over from the host is seen to come from elsewhere.
"""

from collections.abc import Callable

import pytest
import torch
from problems import Problem, digits_problem
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.data import Augmentation, Images, Minibatches
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.training.cuda_graph import Recorder
from hypergrad.training.differentiated_run import ForwardRun
from hypergrad.training.ensemble import EnsembleRun
from hypergrad.training.graphed_step import Replay
from hypergrad.training.host_sync import HostTraffic
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import InnerRun, ScheduledRun
from hypergrad.training.joint_descent import JointDescentRun

SCHEDULE = sgd_schedule((0.05, 0.1), (0.5,), (1e-3, 2e-3))
CPU, META = torch.device("cpu"), torch.device("meta")
STEPS = 8


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (lambda t: t.sum().item(), "aten._local_scalar_dense"),
        (lambda t: t.tolist(), None),  # of a whole tensor on a CPU: no operation at all
        (lambda t: bool((t > 0).any()), "aten._local_scalar_dense"),
        (lambda t: t[t > 0], "aten.index"),
        (lambda t: t.nonzero(), "aten.nonzero"),
        (lambda t: t.new_tensor([1.0, 2.0]), "aten.lift_fresh"),
        (lambda t: t[[0, 2]], "aten.lift_fresh"),
        (lambda t: t[1:].clamp(0, 1) * 3 + torch.where(t[0] > 0, t[0], 0.0), None),
        (lambda t: t * torch.tensor(2.0), None),
    ],
)
def test_traffic_is_noted(operation: Callable[[Tensor], object], name: str | None) -> None:
    with HostTraffic(CPU) as traffic:
        operation(torch.ones(3, 2))
    assert traffic.found == ([] if name is None else [name])


def test_what_comes_from_the_host_is_noted() -> None:
    away = torch.ones(3, 2, device=META)
    with HostTraffic(META) as traffic:
        away + 1
        away[1]
        away * torch.tensor(2.0)
    assert not traffic.found
    index = torch.tensor([0, 2])
    with HostTraffic(META) as traffic:
        away[index]
        index.to(META)
    assert traffic.found == ["aten.index", "aten._to_copy"]


class Made(TorchFunctionMode):
    """Notes tensors that are made of numbers elsewhere: on `meta` no operation shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[object] = []

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, Tensor.new_tensor) and result.device.type != "cpu":
            self.found.append(args)
        return result


def test_tensors_made_of_numbers_elsewhere_are_noted() -> None:
    with Made() as made:
        torch.tensor(1.0)
        torch.zeros((), device=META).fill_(1.0)
    assert made.found == []
    with Made() as made:
        torch.tensor(1.0, device=META)
        torch.zeros(2, device=META).new_tensor([1.0])
    assert len(made.found) == 2


def minibatches(problem: Problem, device: torch.device) -> Minibatches:
    images = Images(problem.images[: 4 * STEPS], problem.labels[: 4 * STEPS]).to(device)
    return Minibatches(images, 4, (0, "synchrony"), Augmentation(pad=1))


def forward_run(strategy: str) -> Callable[..., InnerRun]:
    options = ForwardOptions(clip_products=0.5, truncation=0.3, strategy=strategy, self_test=False)
    return lambda problem: ForwardRun(problem, SCHEDULE, options)


def replayed(problem: InnerProblem) -> InnerRun:
    replay = Replay(problem.model, Recorder(CPU))
    options = ForwardOptions(clip_products=0.5, truncation=0.3, self_test=False)
    return ForwardRun(problem, SCHEDULE, options, replay=replay)


def descent(problem: InnerProblem, replay: Replay | None = None) -> InnerRun:
    return JointDescentRun(
        problem,
        problem.minibatches,
        outer_rates=(0.1, 0.2),
        clip=1.0,
        learned={"learning_rate": True, "momentum": True},
        replay=replay,
    )


KINDS: dict[str, Callable[..., InnerRun]] = {
    **{strategy: forward_run(strategy) for strategy in ("loop", "vmap", "fused", "stacked")},
    "replayed": replayed,
    "training": lambda problem: ScheduledRun(problem, SCHEDULE),
    "ensemble": lambda problem: EnsembleRun(problem, [SCHEDULE] * 2),
    "replayed ensemble": lambda problem: EnsembleRun(
        problem, [SCHEDULE] * 2, Replay(problem.model, Recorder(CPU))
    ),
    "descent": descent,
    "replayed descent": lambda problem: descent(problem, Replay(problem.model, Recorder(CPU))),
}


def inner(kind: str, model: FlatModel, theta: torch.Tensor, batches: Minibatches) -> InnerProblem:
    clip = 3.0 if kind in ("training", "ensemble", "replayed ensemble") else 0.05
    optimizer = InnerOptimizer(transform=ElementwiseClip(clip))
    return InnerProblem.over_epochs(model, theta, batches, 1, optimizer)


def go_through_an_epoch(run: InnerRun, device: torch.device) -> list[str]:
    assert run.problem.minibatches.steps_per_epoch == STEPS
    with HostTraffic(device) as traffic:
        for _ in range(STEPS):
            run.advance()
    return traffic.found


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("name", ["mlp", "lenet", "wrn"])
def test_an_epoch_reads_nothing_back_and_makes_nothing_of_numbers(name: str, kind: str) -> None:
    if (name, kind) == ("wrn", "stacked"):
        pytest.skip("stacked takes chains of layers alone")
    problem = digits_problem(name, **({"depth": 10} if name == "wrn" else {}))
    run = KINDS[kind](inner(kind, problem.model, problem.theta, minibatches(problem, CPU)))
    assert go_through_an_epoch(run, CPU) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=[pytest.mark.slow] if name == "wrn" and slow else [])
        for name in ("mlp", "lenet", "wrn")
        for kind, slow in (
            ("loop", True),
            ("fused", False),
            ("replayed", True),
            ("training", False),
        )
    ],
)
def test_an_epoch_takes_nothing_from_the_host(name: str, kind: str) -> None:
    problem = digits_problem(name, **({"depth": 10} if name == "wrn" else {}))
    model = FlatModel(problem.model.module.to(META))
    batches = minibatches(problem, META)
    run = KINDS[kind](inner(kind, model, problem.theta.to(META), batches))
    with Made() as made:
        assert go_through_an_epoch(run, META) == []
    assert made.found == []
