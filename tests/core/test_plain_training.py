"""The ordinary loop against the library's own steps, which another file holds against torch."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypergrad.core.basis import Vector, Windows
from hypergrad.core.batches import MicroBatches
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import (
    ElementwiseClip,
    GradientTransform,
    NoClip,
    NormClip,
    Transformed,
)
from hypergrad.core.hyperparameters import Hyperparameter as H
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.losses import cross_entropy
from hypergrad.core.objective import Batch, Objective, supervised
from hypergrad.core.plain_training import PlainTraining
from hypergrad.core.rules import Rule, adam, adamw, rmsprop, sgd
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import InnerState, train_step

# float64: the same operations in another order, over some steps; a wrong term shows at 1e-4.
ABSOLUTE = 1e-12
HORIZON = 6
RATES = (0.03, 0.05, 0.02)


def of_head(name: str, parameter: nn.Parameter) -> bool:
    return name.startswith("2.")


def of_body(name: str, parameter: nn.Parameter) -> bool:
    return not name.startswith("2.")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3)).double()


def batch_at(step: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(step)
    x = torch.randn(8, 6, generator=g, dtype=torch.float64)
    return x, torch.randint(3, (8,), generator=g)


def weights_of_the_library(
    module: nn.Module,
    objective: Objective,
    optimizer: InnerOptimizer,
    schedule: Schedule,
    batches: list[Batch],
) -> Tensor:
    model = FlatModel(module, objective)
    bound = optimizer.bind(model, schedule)
    state = InnerState.start(model.theta(), len(bound.rule.slots), model.buffers())
    for step, batch in enumerate(batches):
        values = bound.step_values(bound.given(schedule, step, len(batches)), state.theta)
        state, _, _ = train_step(model, state, batch, bound, values, step)
    return state.theta


def assert_same_weights(
    optimizer: InnerOptimizer,
    schedule: Schedule,
    objective: Objective | None = None,
    batches: list[Batch] | None = None,
) -> Tensor:
    objective = objective or supervised()
    batches = batches or [batch_at(step) for step in range(HORIZON)]
    training = PlainTraining(network(), objective, optimizer, schedule, len(batches))
    for step, batch in enumerate(batches):
        training.step(step, batch)
    expected = weights_of_the_library(network(), objective, optimizer, schedule, batches)
    error = float((training.flat() - expected).abs().max())
    assert error <= ABSOLUTE, f"{error:.1e} off"
    assert float((expected - FlatModel(network()).theta()).abs().max()) > 1e-3  # it has moved
    return expected


def own_update(
    g: Tensor, theta: Tensor, slots: tuple[Tensor, ...], values: Mapping, step: int | Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A rule of nobody's: velocity by the hyperbolic tangent of the gradient."""
    v = 0.7 * slots[0] + torch.tanh(g)
    return theta - values["learning_rate"] * v - values["pull"] * theta, (v,)


OWN = Rule(own_update, {"learning_rate": float("nan"), "pull": 0.001}, ("v",), "learning_rate")
RULES = {
    "sgd": (sgd(), {"momentum": (0.5, 0.9), "weight_decay": (0.1,)}),
    "momentum that begins at zero": (sgd(), {"momentum": (0.0, 0.9)}),
    "momentum that ends at zero": (sgd(), {"momentum": (0.9, 0.0, 0.8)}),
    "nesterov": (sgd(nesterov=True), {"momentum": (0.5, 0.9), "weight_decay": (0.1,)}),
    "dampening": (sgd(dampening=0.3), {"momentum": (0.5, 0.9), "weight_decay": (0.1,)}),
    "adam": (adam(), {"beta1": (0.7, 0.9), "beta2": (0.9, 0.95), "weight_decay": (0.1,)}),
    "adamw": (adamw(), {"beta1": (0.7, 0.9), "epsilon": (1e-3,), "weight_decay": (0.3,)}),
    "adamw's own defaults": (adamw(), {}),
    "rmsprop": (rmsprop(), {"smoothing": (0.9, 0.8), "weight_decay": (0.1,)}),
    "rmsprop with momentum": (rmsprop(), {"smoothing": (0.9,), "momentum": (0.0, 0.5)}),
    "rmsprop centered": (rmsprop(centered=True), {"epsilon": (1e-3,), "momentum": (0.5,)}),
    "one's own": (OWN, {"pull": (0.01, 0.02)}),
    "one's own, named like torch's": (replace(OWN, name="adam"), {"pull": (0.01, 0.02)}),
}


class Halved:
    """A transformation of the user's own."""

    def __call__(self, g: Tensor) -> Tensor:
        return g / 2

    def with_derivative(self, g: Tensor) -> Transformed:
        raise NotImplementedError


CLIPS: dict[str, GradientTransform] = {
    "free": NoClip(),
    "value": ElementwiseClip(0.05),
    "norm": NormClip(0.2),
    "own": Halved(),
}


@pytest.mark.parametrize("grouped", [False, True], ids=["global", "groups"])
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("rule", RULES)
def test_the_weights_are_the_librarys(rule: str, clip: str, grouped: bool) -> None:
    ours, others = RULES[rule]
    values = {"learning_rate": RATES, **others}
    declared: tuple[H, ...] = ()
    if grouped:
        values = {"body": values.pop("learning_rate"), "head": (0.01,), **values}
        body = H("body", 3, sets="learning_rate", where=of_body)
        declared = body, H("head", 1, sets="learning_rate", where=of_head)
    assert_same_weights(InnerOptimizer(ours, declared, CLIPS[clip]), Schedule(values))


def test_a_group_that_nobody_sets_stays_at_the_default() -> None:
    decay = H("decay", 1, sets="weight_decay", where=of_head)
    schedule = Schedule({"learning_rate": RATES, "decay": (0.5,)})
    assert_same_weights(InnerOptimizer(adamw(), (decay,)), schedule)


def test_what_is_declared_but_not_learned_stays_at_its_start() -> None:
    decay = H("weight_decay", 1, start=0.4, learned=False)
    with_decay = assert_same_weights(
        InnerOptimizer(sgd(), (decay,)), Schedule({"learning_rate": RATES})
    )
    without = assert_same_weights(InnerOptimizer(sgd()), Schedule({"learning_rate": RATES}))
    assert not torch.equal(with_decay, without)


def test_micro_batches_are_averaged() -> None:
    parts = [
        MicroBatches([batch_at(2 * step), tuple(t[:3] for t in batch_at(2 * step + 1))])
        for step in range(HORIZON)
    ]
    schedule = Schedule({"learning_rate": RATES, "momentum": (0.9,)})
    assert_same_weights(InnerOptimizer(sgd(), (), NormClip(0.2)), schedule, batches=parts)


def test_the_loss_is_given_its_values() -> None:
    values = {
        "learning_rate": RATES,
        "label_smoothing": (0.1, 0.3),
        "class_weights": (1.0, 0.5, 2.0, 0.3, 1.0, 1.0),
    }
    schedule = Schedule(values, {"class_weights": Vector(3, Windows(2))})
    weighted = assert_same_weights(InnerOptimizer(sgd()), schedule, Objective(cross_entropy))
    plain = Schedule({"learning_rate": RATES})
    assert not torch.equal(
        weighted, assert_same_weights(InnerOptimizer(sgd()), plain, Objective(cross_entropy))
    )


def training_of(module: nn.Module) -> PlainTraining:
    schedule = Schedule({"learning_rate": (0.1,)})
    return PlainTraining(module, supervised(), InnerOptimizer(sgd()), schedule, 1)


def normalised() -> nn.Sequential:
    layers = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3)
    return nn.Sequential(*layers).double()


def test_validation_is_without_dropout_by_the_batchs_statistics_which_it_does_not_keep() -> None:
    module = normalised()
    training = training_of(module)
    before = {name: each.clone() for name, each in training.module.state_dict().items()}
    x, y = batch_at(0)
    found = training.validation_loss([(x, y), (x[:2], y[:2])])
    h = [module[0](part) for part in (x, x[:2])]
    h = [(each - each.mean(0)) / (each.var(0, unbiased=False) + 1e-5).sqrt() for each in h]
    parts = [
        F.cross_entropy(module[3](each), own, reduction="sum")
        for each, own in zip(h, (y, y[:2]), strict=True)
    ]
    assert found == pytest.approx(float(sum(parts).detach()) / 10, rel=1e-12)
    for name, each in training.module.state_dict().items():
        assert torch.equal(each, before[name]), name
    assert all(each.training for each in training.module.modules())
    assert training.module[1].track_running_stats is True


def test_batch_norm_that_was_left_in_evaluation_stays_there() -> None:
    module = normalised()
    module[1].eval()
    module[1].running_mean.fill_(2.0)
    module[2].p = 0.0
    training = training_of(module)
    x, y = batch_at(0)
    expected = F.cross_entropy(copy_in_eval(module)(x), y).detach()
    assert training.validation_loss([(x, y)]) == pytest.approx(float(expected), rel=1e-12)
    loss = training.step(0, (x, y))
    assert float(loss) == pytest.approx(float(expected), rel=1e-12)
    assert torch.equal(training.module[1].running_mean, module[1].running_mean)
    assert [each.training for each in training.module] == [True, False, True, True]


def copy_in_eval(module: nn.Module) -> nn.Module:
    other = normalised()
    other.load_state_dict(module.state_dict())
    return other.eval()


def test_the_module_given_is_left_alone() -> None:
    module = network()
    before = {name: each.clone() for name, each in module.state_dict().items()}
    training_of(module).step(0, batch_at(0))
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())
    assert all(each.grad is None for each in module.parameters())


def test_flat_has_the_order_and_the_choice_of_the_functional_model() -> None:
    module = network()
    module[0].bias.requires_grad_(False)
    assert torch.equal(training_of(module).flat(), FlatModel(module).theta())


def test_the_gradient_is_that_of_the_last_step_before_the_update() -> None:
    module = network()
    training, model = training_of(module), FlatModel(module)
    loss = training.backward(0, batch_at(0))
    theta = model.theta().requires_grad_()
    expected = model.loss(theta, batch_at(0))
    (g,) = torch.autograd.grad(expected, theta)
    torch.testing.assert_close(training.gradient(), g, rtol=0, atol=ABSOLUTE)
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=ABSOLUTE)


def test_without_validation_data_there_is_no_loss() -> None:
    with pytest.raises(ValueError, match="no validation data: give at least one batch"):
        training_of(network()).validation_loss([])
