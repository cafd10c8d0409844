"""Networks, their flat view, and evaluation against an ordinary PyTorch loop."""

import pytest
import torch
from oracles import torch_training_loop
from problems import digits_problem
from torch import nn

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.training_step import InnerState, train_step
from hypergrad.differentiation.forward import forward_step, hypergradients
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.recursion import Tangents
from hypergrad.models import MLP, build


@pytest.mark.parametrize(
    ("name", "shape", "options", "parameters"),
    [
        ("lenet", (1, 28, 28), {}, 44_426),
        ("lenet", (3, 32, 32), {}, 62_006),
        ("wrn", (3, 32, 32), {}, 175_066),
        ("wrn", (3, 32, 32), {"depth": 16, "width": 4}, 2_748_890),
        ("mlp", (1, 8, 8), {"hidden": 64, "depth": 2}, 8_970),
    ],
)
def test_sizes(name: str, shape: tuple, options: dict, parameters: int) -> None:
    module = build(name, shape, 10, options=options)
    assert FlatModel(module).size == parameters
    assert module(torch.zeros(2, *shape)).shape == (2, 10)


def test_wrn_16_has_no_bias_in_convolutions_and_xavier_weights() -> None:
    module = build("wrn", (3, 32, 32), 10)
    convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    assert sum(layer.kernel_size == (3, 3) for layer in convolutions) == 13
    assert all(layer.bias is None for layer in convolutions)
    last = convolutions[-1].weight
    fan = 64 * 9 + 64 * 9
    assert float(last.detach().std()) == pytest.approx((2 / fan) ** 0.5, rel=0.05)


def test_weights_are_a_pure_function_of_the_seed_and_leave_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    one, two, other = (FlatModel(build("mlp", (1, 8, 8), 10, seed=s)).theta() for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("resnet", (3, 32, 32), {}, "unknown model 'resnet'"),
        ("lenet", (1, 8, 8), {}, "image_size=28"),
        ("wrn", (3, 32, 32), {"depth": 18}, "depth 18 is not 6n"),
        ("wrn", (3, 32, 32), {"width": 0}, "width 0 must be at least 1"),
        ("mlp", (1, 8, 8), {"depht": 1}, "no option depht: it takes hidden, depth, smooth"),
    ],
)
def test_bad_networks_are_named(name: str, shape: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, shape, 10, options=options)


def test_a_module_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="Flatten has no trainable parameters"):
        FlatModel(nn.Flatten())


def test_the_flat_view_computes_what_the_module_computes() -> None:
    problem = digits_problem("wrn", depth=10)
    x, y = problem.batch_at(0)
    problem.model.module.train()
    expected = nn.functional.cross_entropy(problem.model.module(x), y)
    assert float(problem.model.loss(problem.theta, (x, y))) == pytest.approx(
        expected.item(), rel=1e-14
    )


@pytest.mark.parametrize("with_tangents", [False, True], ids=["training", "with tangents"])
@pytest.mark.parametrize("strategy", ["loop", "vmap", "fused"])
def test_evaluation_equals_an_ordinary_training_loop(strategy: str, with_tangents: bool) -> None:
    """Weights, running statistics, loss and accuracy after 30 steps of WRN with batch norm."""
    problem = digits_problem("wrn", depth=10)
    schedule, horizon = sgd_schedule((0.1, 0.02), (0.9,), (5e-4,)), 30
    batches = [problem.batch_at(step) for step in range(horizon)]
    buffers = problem.model.buffers()
    optimizer = InnerOptimizer(transform=ElementwiseClip(0.5)).bind(problem.model, schedule)
    state = InnerState.start(problem.theta, 1, buffers)
    tangents = Tangents.start(problem.theta, 1, 4)
    for step, batch in enumerate(batches):
        if with_tangents and step < 5:
            state, tangents, _, _ = forward_step(
                problem.model,
                state,
                tangents,
                batch,
                optimizer,
                schedule,
                step,
                horizon,
                ForwardOptions(strategy=strategy),
            )
        else:
            values = optimizer.step_values(schedule.at(step, horizon), state.theta)
            state = train_step(problem.model, state, batch, optimizer, values, step)[0]
    loss, accuracy = problem.model.evaluate(state.theta, state.buffers, problem.validation)

    module = torch_training_loop(problem.model, problem.theta, buffers, batches, schedule, 0.5)
    x = torch.cat([x for x, _ in problem.validation])
    y = torch.cat([y for _, y in problem.validation])
    with torch.no_grad():
        logits = module(x)
    assert loss == pytest.approx(float(nn.functional.cross_entropy(logits, y)), rel=1e-9)
    assert accuracy == float((logits.argmax(1) == y).double().mean())
    assert accuracy > 0.3  # it has learned something, so that the comparison means something
    for name, buffer in module.named_buffers():
        torch.testing.assert_close(state.buffers[name], buffer, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(state.theta, problem.model.theta(), rtol=1e-8, atol=1e-10)


def test_the_module_is_left_as_it_is() -> None:
    problem = digits_problem("wrn", depth=10)
    module = problem.model.module.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    x, y = problem.batch_at(0)
    problem.model.tracked_loss(problem.theta, (x, y), problem.model.buffers())
    problem.model.loss(problem.theta, (x, y))
    assert not any(layer.training for layer in module.modules())
    assert all(
        layer.track_running_stats for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)
    )
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_frozen_parameters_are_constants() -> None:
    module = build("mlp", (1, 8, 8), 10, options={"hidden": 8, "depth": 1})
    first = next(module.parameters())
    first.requires_grad_(False)
    model = FlatModel(module)
    assert model.size == sum(p.numel() for p in module.parameters()) - first.numel()
    assert len(model.parameters(model.theta())) == len(list(module.parameters())) - 1
    x, y = torch.ones(2, 1, 8, 8), torch.tensor([1, 2])
    assert float(model.loss(model.theta(), (x, y))) == pytest.approx(
        nn.functional.cross_entropy(module(x), y).item()
    )


class _Counting(nn.Module):
    """Keeps something of its own in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.seen, torch.Tensor)
        self.seen += 1
        return self.linear(x) * self.seen


def test_the_pure_loss_changes_no_buffer() -> None:
    model = FlatModel(_Counting())
    x, y, theta = torch.ones(3, 4), torch.tensor([0, 1, 1]), model.theta()
    kept = model.buffers()
    first = model.tracked_loss(theta, (x, y), kept)[0]
    assert float(kept["seen"]) == 1
    for _ in range(2):
        assert torch.equal(model.loss(theta, (x, y)), first)
    assert torch.equal(model.loss(theta, (x, y), kept), model.tracked_loss(theta, (x, y), kept)[0])


def test_dropout_needs_the_loop() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.5))
    problem = digits_problem("mlp", dtype=torch.float32)
    model = FlatModel(module)
    batch = (problem.batch_at, problem.validation, sgd_schedule((0.1,), (0.5,), (0.0,)), 3)
    with pytest.raises(ValueError, match="use strategy='loop'"):
        hypergradients(model, model.theta(), *batch, ForwardOptions(strategy="vmap"))
    for strategy in ("loop", "fused"):
        hypergradients(model, model.theta(), *batch, ForwardOptions(strategy=strategy))
    x, y = problem.batch_at(0)
    given = model.theta(), (x, y)
    assert torch.equal(model.validation_loss(*given), model.validation_loss(*given))
    assert not torch.equal(model.loss(*given), model.loss(*given))  # as in training


def test_a_class_is_built_as_a_name_is() -> None:
    named, given = (build(network, (1, 8, 8), 10, seed=3) for network in ("mlp", MLP))
    for one, other in zip(named.parameters(), given.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="'MLP' has no option length"):
        build(MLP, (1, 8, 8), 10, options={"length": 2})
