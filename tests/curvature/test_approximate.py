"""Hessian products on a part of the minibatch and in lower precision, and what they leave alone."""

import pytest
import torch
from problems import Problem, digits_problem
from tiny import tiny_context
from torch import Tensor, nn

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.schedule import Schedule
from hypergrad.core.sgd import InnerState
from hypergrad.curvature import STRATEGIES
from hypergrad.curvature.approximate import inexact_products, part_of, tensor_cores
from hypergrad.differentiation.forward import forward_step, hypergradients
from hypergrad.differentiation.options import ForwardOptions, settle
from hypergrad.differentiation.recursion import Tangents

SCHEDULE = Schedule((0.05, 0.1), (0.5,), (1e-3,))
HORIZON, CLIP = 8, 0.02
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
    state = InnerState.start(theta, model.buffers())
    tangents = Tangents.start(theta, len(SCHEDULE.flat))
    for step in range(HORIZON):
        batch = problem.batch_at(step)
        state, tangents, _, _ = forward_step(
            model, state, tangents, batch, SCHEDULE, step, HORIZON, options
        )
    return state, tangents


def written_down(problem: Problem, examples: int) -> tuple[Tensor, Tensor]:
    """theta_T and Z_T with the gradient of whole minibatches and the Hessian of a few examples."""
    model, theta = problem.model, problem.theta
    v, Z = torch.zeros_like(theta), theta.new_zeros(4, theta.numel())
    C = torch.zeros_like(Z)
    for step in range(HORIZON):
        alpha, beta, mu, (which, _, _) = SCHEDULE.at(step, HORIZON)
        x, y = problem.batch_at(step)
        point = theta.clone().requires_grad_()
        (g,) = torch.autograd.grad(model.loss(point, x, y), point)
        part = model.loss(point, x[:examples], y[:examples])
        (slope,) = torch.autograd.grad(part, point, create_graph=True)
        rows = [torch.autograd.grad(slope @ z, point, retain_graph=True)[0] for z in Z]
        C = beta * C + mu * Z + torch.stack(rows) * (g.abs() <= CLIP)
        C[2] += v
        C[3] += theta
        v = beta * v + g.clamp(-CLIP, CLIP) + mu * theta
        # The second learning rate has not begun in the first half: its row is zero until then.
        Z = Z - alpha * C
        Z[which] -= v
        theta = theta - alpha * v
    return theta, Z


@pytest.mark.parametrize(("name", "options", "strategy"), NETWORKS)
def test_products_on_half_a_minibatch_are_those_of_its_first_half(
    name: str, options: dict, strategy: str
) -> None:
    problem = digits_problem(name, batch_size=10, **options)
    half = ForwardOptions(CLIP, strategy=strategy, batch_fraction=0.5)
    state, tangents = walk(problem, half)
    theta, Z = written_down(problem, 5)
    scale = float(Z.abs().max())
    assert float((state.theta - theta).abs().max()) < 1e-10
    assert float((tangents.Z - Z).abs().max()) < 1e-10 * scale
    _, whole = walk(problem, ForwardOptions(CLIP, strategy=strategy))
    assert float((whole.Z - Z).abs().max()) > 1e-3 * scale  # the part is seen to be one
    assert tangents.reached == whole.reached
    assert tangents.diagnostics.products == whole.diagnostics.products


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_part_that_is_everything_is_exact(strategy: str) -> None:
    problem = digits_problem("mlp", batch_size=10, hidden=16)
    _, nearly = walk(problem, ForwardOptions(CLIP, strategy=strategy, batch_fraction=0.99))
    _, whole = walk(problem, ForwardOptions(CLIP, strategy=strategy))
    torch.testing.assert_close(nearly.Z, whole.Z, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("shortcut", [{"batch_fraction": 0.5}, {"precision": "bfloat16"}])
@pytest.mark.parametrize(("name", "options"), [("mlp", {"hidden": 16}), ("wrn", {"depth": 10})])
def test_training_is_left_alone_to_the_last_bit(name: str, options: dict, shortcut: dict) -> None:
    """Weights, velocities and running statistics."""
    problem = digits_problem(name, batch_size=8, dtype=torch.float32, **options)
    exact, _ = walk(problem, ForwardOptions(CLIP))
    state, tangents = walk(problem, ForwardOptions(CLIP, **shortcut))
    assert torch.equal(state.theta, exact.theta)
    assert torch.equal(state.v, exact.v)
    assert state.buffers.keys() == exact.buffers.keys()
    assert all(torch.equal(state.buffers[name], exact.buffers[name]) for name in exact.buffers)
    assert tangents.Z.dtype == tangents.C.dtype == torch.float32


@pytest.mark.parametrize("shortcut", [{"batch_fraction": 0.5}, {"precision": "bfloat16"}])
def test_steps_without_products_are_exact_to_the_last_bit(shortcut: dict) -> None:
    """From all-zero values nothing depends on the Hessian."""
    problem = digits_problem("mlp", dtype=torch.float32, hidden=16)
    given = problem.model, problem.theta, problem.batch_at, problem.validation
    zeros = Schedule.zeros((2, 1, 1))
    found = hypergradients(*given, zeros, 6, ForwardOptions(CLIP, **shortcut))
    assert found.values == hypergradients(*given, zeros, 6, ForwardOptions(CLIP)).values


@pytest.mark.parametrize(("name", "options", "strategy"), NETWORKS)
def test_bfloat16_products_have_about_two_digits(name: str, options: dict, strategy: str) -> None:
    problem = digits_problem(name, batch_size=32, dtype=torch.float32, **options)
    model, theta, batch = problem.model, problem.theta, problem.batch_at(0)
    Z = torch.randn(3, len(theta), generator=torch.Generator().manual_seed(0))
    given = model, theta, Z, batch, model.buffers(), strategy, 1.0
    exact, low = (inexact_products(*given, precision) for precision in (None, "bfloat16"))
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
    given = model, model.theta(), Z, batch, model.buffers(), "loop", 1.0
    exact, low = (inexact_products(*given, precision) for precision in (None, "bfloat16"))
    assert 0 < float((low - exact).norm() / exact.norm()) < 0.05


class _Constant(nn.Module):
    """Adds a tensor that no cast of the module reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.constant = nn.Linear(64, 10), torch.ones(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)) @ self.constant


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (nn.Linear(8, 10), {"batch_fraction": 0.01}, "batch_fraction=0.01 of 16 examples is none"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.1)),
            {"batch_fraction": 0.5},
            "has dropout, and inexact Hessian products would see another mask",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10)),
            {"batch_fraction": 0.06},
            "does not take inexact Hessian products .*more than 1 value per channel",
        ),
        (_Constant(), {"precision": "bfloat16"}, "does not take inexact Hessian products .*dtype"),
        (nn.Linear(8, 10).double(), {"precision": "bfloat16"}, "is for runs in float32"),
        (nn.Linear(8, 10), {"precision": "tf32"}, "tf32 needs a CUDA device"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(
    module: nn.Module, options: dict, message: str
) -> None:
    problem, model = digits_problem("mlp", dtype=torch.float32), FlatModel(module)
    with pytest.raises(ValueError, match=message) as caught:
        settle(model, model.theta(), problem.batch_at(0), 3, ForwardOptions(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_fraction": 0.0}, r"batch_fraction=0.0 must be in \(0, 1\]"),
        ({"batch_fraction": 1.5}, r"batch_fraction=1.5 must be in \(0, 1\]"),
        ({"batch_fraction": float("nan")}, r"batch_fraction=nan must be in \(0, 1\]"),
        ({"precision": "float16"}, "unknown precision 'float16': use one of"),
    ],
)
def test_nonsense_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ForwardOptions(**options)


def test_auto_chooses_for_the_part_in_its_precision() -> None:
    problem = digits_problem("mlp", dtype=torch.float32, hidden=4)
    asked = ForwardOptions(strategy="auto", batch_fraction=0.5, precision="bfloat16")
    options = settle(problem.model, problem.theta, problem.batch_at(0), 3, asked)
    assert options.strategy in STRATEGIES
    assert (options.batch_fraction, options.precision) == (0.5, "bfloat16")


def test_a_part_of_a_short_minibatch_has_an_example() -> None:
    x, y = torch.zeros(3, 2), torch.tensor([5, 6, 7])
    assert part_of((x, y), 0.1)[1].tolist() == [5]


@pytest.mark.parametrize("strategy", ["loop", "fused"])
def test_the_gradient_does_not_depend_on_whether_there_are_products(strategy: str) -> None:
    problem = digits_problem("wrn", depth=10, batch_size=8, dtype=torch.float32)
    options = ForwardOptions(strategy=strategy, batch_fraction=0.5)
    state = InnerState.start(problem.theta, problem.model.buffers())
    Z = torch.ones(1, len(problem.theta))
    after = []
    for reached in (True, False):
        tangents = Tangents.start(problem.theta, 1)._replace(Z=Z, C=Z, reached=(reached,))
        given = problem.model, state.copied(), tangents, problem.batch_at(0)
        after.append(forward_step(*given, Schedule((0.1,), (), ()), 0, 10, options)[0].theta)
    assert torch.equal(*after)


def test_tf32_is_switched_on_for_the_products_alone() -> None:
    places = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [place.fp32_precision for place in places]

    def within() -> None:
        with tensor_cores():
            assert [place.fp32_precision for place in places] == ["tf32", "tf32"]
            raise KeyError

    with pytest.raises(KeyError):
        within()
    assert [place.fp32_precision for place in places] == before


def test_a_run_computes_float32_in_float32() -> None:
    places = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [place.fp32_precision for place in places]
    try:
        places[0].fp32_precision = "tf32"
        tiny_context()
        assert [place.fp32_precision for place in places] == ["ieee", "ieee"]
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision


@pytest.mark.gpu
def test_tf32_products_are_close_to_float32() -> None:
    problem = digits_problem("lenet", batch_size=128, dtype=torch.float32)
    module = problem.model.module.cuda()
    model, (x, y) = FlatModel(module), problem.batch_at(0)
    Z = torch.randn(3, model.size, device="cuda")
    given = model, model.theta(), Z, (x.cuda(), y.cuda()), model.buffers(), "loop", 1.0
    exact, low = (inexact_products(*given, precision) for precision in (None, "tf32"))
    assert float((low - exact).norm() / exact.norm()) < 0.02
