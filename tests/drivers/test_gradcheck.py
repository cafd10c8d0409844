"""The check at length: right networks agree, whatever they draw; wrong derivatives do not."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypergrad.config.composition import compose
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.plain_training import PlainTraining
from hypergrad.drivers import gradcheck
from hypergrad.drivers.context import make_model, prepare
from hypergrad.drivers.gradcheck import CheckedValue, GradientCheck, compare
from hypergrad.drivers.scalar_differences import AGREE, DISAGREE, UNKNOWN

SMALL = "scale=smoke", "hyperparameters.learning_rate.count=2"


def checked(*overrides: str, module: nn.Module | None = None, steps: int = 4) -> GradientCheck:
    """Check the from_zero, or another network in its place."""
    config, _ = compose("from_zero", [*SMALL, *overrides])
    context = prepare(config)
    if module is None:
        model = make_model(config, context.data, config.seed)
    else:
        config = replace(config, hvp=replace(config.hvp, strategy="loop"))  # fits any network
        model = FlatModel(module.to(getattr(torch, config.precision)))
    return compare(config, model, context.data, steps)


def verdicts(found: GradientCheck) -> set[str]:
    return {value.verdict for value in found.values}


def net(*middle: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), *middle, nn.Linear(8, 10))


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("precision=float64",),
        ("method=unshared",),
        ("hvp.strategy=vmap",),
        ("hvp.strategy=stacked",),
        ("method.clip_gradient=null", "method.clip_norm=0.5"),
        ("model=lenet", "data.image_size=28"),
        ("model=wrn_16_1", "model.options.depth=10"),
    ],
    ids=" ".join,
)
def test_the_librarys_networks_agree(overrides: tuple[str, ...]) -> None:
    found = checked(*overrides)
    assert verdicts(found) == {AGREE}
    assert found.passes
    assert found.weights_error < 1e-12
    assert max(value.error for value in found.values) < 1e-4
    assert all(value.keeps_sign for value in found.values)
    assert max(value.own_error for value in found.values) < 2e-2


class Noisy(nn.Module):
    """Dropout that no type tells."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.3, self.training).tanh()


@pytest.mark.parametrize(
    "layer", [nn.Dropout(0.5), Noisy(), nn.AlphaDropout(0.2)], ids=["module", "function", "alpha"]
)
def test_dropout_agrees_as_every_training_draws_the_same_masks(layer: nn.Module) -> None:
    found = checked(module=net(nn.Tanh(), layer))
    assert verdicts(found) == {AGREE}
    assert found.passes
    still = checked(module=net(nn.Tanh()))
    assert abs(found.values[0].ours - still.values[0].ours) > 1e-3  # the masks do something


class WrongSecondDerivative(torch.autograd.Function):
    """The hyperbolic tangent, whose backward is right once only."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradients[0] * (1 - x.detach().tanh() ** 2)


class Wrong(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return WrongSecondDerivative.apply(x)


class FusedWeightNorm(nn.Module):
    """`torch._weight_norm`, whose own double backward fails PyTorch's check."""

    def __init__(self) -> None:
        super().__init__()
        self.v, self.g = nn.Parameter(torch.randn(8, 8) / 5), nn.Parameter(torch.ones(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, torch._weight_norm(self.v, self.g, 0)).tanh()


class ByFrequency(nn.Module):
    """An embedding of the pixels' brightness whose gradient is divided by how often it is met."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(17, 4, scale_grad_by_freq=True)
        self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        pixels = (x - x.amin()).div(x.amax() - x.amin()).mul(16).round().long().flatten(1)
        return self.head(self.table(pixels).mean(dim=1).mul(20).tanh())


def wrong(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "embedding":
        return ByFrequency()
    return net(Wrong() if name == "function" else FusedWeightNorm())


@pytest.mark.parametrize("name", ["function", "weight norm", "embedding"])
def test_a_wrong_second_derivative_does_not_agree(name: str) -> None:
    found = checked("hyperparameters.learning_rate.start=0.5", module=wrong(name))
    assert DISAGREE in verdicts(found)
    assert found.same_training
    assert not found.passes


class Shrinking(PlainTraining):
    """Stands for a user's loop that is not what is differentiated, by very little."""

    def update(self, number: int) -> None:
        super().update(number)
        self.load(self.flat() * (1 - 1e-7))


def test_another_training_does_not_pass_though_its_derivatives_agree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gradcheck, "PlainTraining", Shrinking)
    found = checked()
    assert verdicts(found) == {AGREE}
    assert 1e-8 < found.weights_error < 1e-6
    assert not found.passes


def value(**changed: float | str) -> CheckedValue:
    given = {"ours": 1.0, "difference": 1.0, "verdict": AGREE, "reason": "", "own": 1.0}
    return CheckedValue("x[0]", **{**given, **changed})  # type: ignore[arg-type]


def test_what_cannot_be_told_alone_is_no_pass_and_beside_others_no_failure() -> None:
    unknown = value(verdict=UNKNOWN, reason="kinks")
    assert not GradientCheck([unknown], 0.0).passes
    assert GradientCheck([unknown, value()], 0.0).passes
    assert not GradientCheck([value(verdict=DISAGREE), value()], 0.0).passes
    assert not GradientCheck([value()], 1e-6).passes
    assert not GradientCheck([value()], float("nan")).passes


def test_chaos_in_the_runs_precision_is_said_and_no_failure() -> None:
    from hypergrad.cli.run_commands import _precision_verdict

    found = GradientCheck([value(), value(own=-3.0)], 0.0)
    assert found.passes
    assert found.values[1].own_error == 4.0
    assert "another sign of x[0]: rounding grows" in _precision_verdict(found)
    assert not value(own=0.0).keeps_sign
    assert value(ours=0.0, own=0.0).keeps_sign


def test_the_random_state_is_left_alone() -> None:
    module = net(nn.Dropout(0.5))
    before = torch.get_rng_state()
    checked(module=module, steps=2)
    assert torch.equal(torch.get_rng_state(), before)
