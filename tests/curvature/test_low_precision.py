"""Hessian products in lower precision, and what they leave alone."""

from collections.abc import Callable

import pytest
import torch
from float32 import float32_precision
from problems import Problem, digits_problem
from torch import Tensor, nn

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.training_step import InnerState
from hypergrad.curvature import STRATEGIES
from hypergrad.curvature.low_precision import (
    products_in_precision,
    tensor_cores,
    true_float32,
)
from hypergrad.differentiation.forward import forward_step, hypergradients
from hypergrad.differentiation.options import ForwardOptions, settle
from hypergrad.differentiation.recursion import Tangents

SCHEDULE = sgd_schedule((0.05, 0.1), (0.5,), (1e-3,))
HORIZON, CLIP = 8, 0.02
OPTIMIZER = InnerOptimizer(transform=ElementwiseClip(CLIP))
NETWORKS = [
    ("mlp", {"hidden": 16}, "loop"),
    ("mlp", {"hidden": 16}, "vmap"),
    ("mlp", {"hidden": 16}, "stacked"),
    ("mlp", {"hidden": 16}, "fused"),
    ("lenet", {}, "stacked"),
    ("wrn", {"depth": 10}, "loop"),
    ("wrn", {"depth": 10}, "vmap"),
    ("wrn", {"depth": 10}, "fused"),
]


def walk(problem: Problem, options: ForwardOptions) -> tuple[InnerState, Tangents]:
    """The inner loop to its end."""
    model, theta = problem.model, problem.theta
    optimizer = OPTIMIZER.bind(model, SCHEDULE)
    state = InnerState.start(theta, 1, model.buffers())
    tangents = Tangents.start(theta, 1, len(SCHEDULE.flat))
    for step in range(HORIZON):
        batch = problem.batch_at(step)
        state, tangents, _, _ = forward_step(
            model, state, tangents, batch, optimizer, SCHEDULE, step, HORIZON, options
        )
    return state, tangents


@pytest.mark.parametrize(("name", "options"), [("mlp", {"hidden": 16}), ("wrn", {"depth": 10})])
def test_training_is_left_alone_to_the_last_bit(name: str, options: dict) -> None:
    """Weights, velocities and running statistics."""
    problem = digits_problem(name, batch_size=8, dtype=torch.float32, **options)
    exact, _ = walk(problem, ForwardOptions())
    state, tangents = walk(problem, ForwardOptions(precision="bfloat16"))
    assert torch.equal(state.theta, exact.theta)
    assert torch.equal(state.slots[0], exact.slots[0])
    assert state.buffers.keys() == exact.buffers.keys()
    assert all(torch.equal(state.buffers[name], exact.buffers[name]) for name in exact.buffers)
    assert tangents.Z.dtype == tangents.S[0].dtype == torch.float32


def test_steps_without_products_are_exact_to_the_last_bit() -> None:
    """From all-zero values nothing depends on the Hessian."""
    problem = digits_problem("mlp", dtype=torch.float32, hidden=16)
    given = problem.model, problem.theta, problem.batch_at, problem.validation
    zeros = sgd_schedule((0.0, 0.0), (0.0,), (0.0,))
    found, exact = (
        hypergradients(*given, zeros, 6, ForwardOptions(precision=precision), optimizer=OPTIMIZER)
        for precision in ("bfloat16", None)
    )
    assert found.values == exact.values


@pytest.mark.parametrize(("name", "options", "strategy"), NETWORKS)
def test_bfloat16_products_have_about_two_digits(name: str, options: dict, strategy: str) -> None:
    problem = digits_problem(name, batch_size=32, dtype=torch.float32, **options)
    model, theta, batch = problem.model, problem.theta, problem.batch_at(0)
    Z = torch.randn(3, len(theta), generator=torch.Generator().manual_seed(0))
    given = model, theta, Z, batch, model.buffers(), strategy
    exact, low = (products_in_precision(*given, precision) for precision in (None, "bfloat16"))
    assert low.dtype == torch.float32
    error = float((low - exact).norm() / exact.norm())
    # Eight bits of mantissa, three layers there and back, or a dozen with normalisation.
    assert 1e-3 < error < (0.3 if name == "wrn" else 0.1)


def test_bfloat16_takes_frozen_parameters_buffers_and_whole_numbers() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(8, 6)
            self.embed.weight.requires_grad_(False)
            self.register_buffer("shift", torch.linspace(0, 1, 6))
            self.head = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x).mean(1) + self.shift)

    torch.manual_seed(0)
    model = FlatModel(Tokens())
    batch = torch.arange(20).view(5, 4) % 8, torch.arange(5) % 3
    Z = torch.randn(2, model.size)
    given = model, model.theta(), Z, batch, model.buffers(), "loop"
    exact, low = (products_in_precision(*given, precision) for precision in (None, "bfloat16"))
    assert 0 < float((low - exact).norm() / exact.norm()) < 0.05


class _Constant(nn.Module):
    """Adds a tensor that no cast of the module reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.constant = nn.Linear(64, 10), torch.ones(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)) @ self.constant


@pytest.mark.parametrize(
    ("module", "precision", "message"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.1)),
            "bfloat16",
            "'2' .Dropout. draws random numbers, and Hessian products in bfloat16",
        ),
        (_Constant(), "bfloat16", "does not take Hessian products in bfloat16 .*dtype"),
        (nn.Linear(8, 10).double(), "bfloat16", "is for training in float32"),
        (nn.Linear(8, 10), "tf32", "precision='tf32' needs a CUDA device"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(
    module: nn.Module, precision: str, message: str
) -> None:
    problem, model = digits_problem("mlp", dtype=torch.float32), FlatModel(module)
    with pytest.raises(ValueError, match=message) as caught:
        settle(model, model.theta(), problem.batch_at(0), 3, ForwardOptions(precision=precision))
    assert "\n" not in str(caught.value)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown precision 'float16': use one of"):
        ForwardOptions(precision="float16")


def test_auto_chooses_in_the_precision() -> None:
    problem = digits_problem("mlp", dtype=torch.float32, hidden=4)
    asked = ForwardOptions(strategy="auto", precision="bfloat16")
    options = settle(problem.model, problem.theta, problem.batch_at(0), 3, asked)
    assert options.strategy in STRATEGIES
    assert options.precision == "bfloat16"


@pytest.mark.parametrize("strategy", ["loop", "fused"])
def test_the_gradient_does_not_depend_on_whether_there_are_products(strategy: str) -> None:
    problem = digits_problem("wrn", depth=10, batch_size=8, dtype=torch.float32)
    options = ForwardOptions(strategy=strategy, precision="bfloat16")
    state = InnerState.start(problem.theta, 1, problem.model.buffers())
    schedule = sgd_schedule((0.1,), (), ())
    bound = InnerOptimizer().bind(problem.model, schedule)
    Z = torch.ones(1, len(problem.theta))
    after = []
    for reached in (True, False):
        tangents = Tangents.start(problem.theta, 1, 1)._replace(Z=Z, S=(Z,), reached=(reached,))
        given = problem.model, state.copied(), tangents, problem.batch_at(0), bound, schedule
        after.append(forward_step(*given, 0, 10, options)[0].theta)
    assert torch.equal(*after)


@pytest.mark.parametrize(("switched", "mode"), [(tensor_cores, "tf32"), (true_float32, "ieee")])
def test_the_precision_of_float32_is_switched_for_a_while(switched: Callable, mode: str) -> None:
    before = float32_precision()

    def within() -> None:
        with switched():
            assert float32_precision() == [mode, mode]
            raise KeyError

    with pytest.raises(KeyError):
        within()
    assert float32_precision() == before


@pytest.mark.gpu
def test_tf32_products_are_close_to_float32() -> None:
    problem = digits_problem("lenet", batch_size=128, dtype=torch.float32)
    module = problem.model.module.cuda()
    model, (x, y) = FlatModel(module), problem.batch_at(0)
    Z = torch.randn(3, model.size, device="cuda")
    given = model, model.theta(), Z, (x.cuda(), y.cuda()), model.buffers(), "loop"
    exact, low = (products_in_precision(*given, precision) for precision in (None, "tf32"))
    assert float((low - exact).norm() / exact.norm()) < 0.02
