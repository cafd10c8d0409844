"""Modules as their users bring them: evaluated as a plain call would."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hypergrad.core.functional_model import FlatModel

DOUBLE = torch.float64


class Checkpointed(nn.Module):
    """Calls its layer again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(checkpoint(lambda h: torch.tanh(self.first(h)), x, use_reentrant=False))


class Late(nn.Module):
    """Multiplies a gradient by a weight, when there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h.register_hook(lambda g: g * self.last.weight.detach().sum())
        return self.last(h)


def recurrent() -> nn.Module:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(2, 3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.lstm(x.view(len(x), 3, 2))[0][:, -1]

    return Last()


def tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    net[2].weight = net[0].weight
    return net


def compiled() -> nn.Module:
    return nn.Sequential(torch.compile(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 3))  # type: ignore[arg-type]


def in_parallel() -> nn.Module:
    return nn.DataParallel(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(7, 6, generator=generator, dtype=DOUBLE), torch.arange(7) % 3


NETWORKS = [Checkpointed, Late, recurrent, tied, in_parallel]


@pytest.mark.parametrize("make", NETWORKS)
def test_gradients_away_from_the_start_are_those_of_a_plain_call(make: Callable) -> None:
    torch.manual_seed(0)
    module = make().to(DOUBLE)
    model = FlatModel(module)
    moved = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x, y = batch()
    loss = F.cross_entropy(moved(x), y)
    expected = torch.autograd.grad(loss, [p for p in moved.parameters() if p.requires_grad])
    theta = torch.cat([p.detach().reshape(-1) for p in moved.parameters()]).requires_grad_()
    found = model.loss(theta, (x, y))
    assert found.item() == pytest.approx(loss.item(), rel=1e-14)
    (g,) = torch.autograd.grad(found, theta)
    torch.testing.assert_close(g, torch.cat([e.reshape(-1) for e in expected]), rtol=1e-12, atol=0)


def test_wrappers_of_compilation_are_taken_off() -> None:
    module = compiled().to(DOUBLE)
    model = FlatModel(module)
    x, y = batch()
    theta = model.theta().requires_grad_()
    (g,) = torch.autograd.grad(model.loss(theta, (x, y)), theta, create_graph=True)
    assert torch.autograd.grad(g.sum(), theta)[0].isfinite().all()
    assert type(module[0]).__name__ == "OptimizedModule"
    model.load(theta.detach() + 1, {})
    torch.testing.assert_close(FlatModel(module).theta(), theta.detach() + 1)


def normalised() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3)).to(
        DOUBLE
    )


def test_layers_stay_in_the_mode_that_the_user_left_them_in() -> None:
    module = normalised()
    module[1].running_mean.fill_(0.3)
    module[1].eval()
    module[2].eval()
    model, given = FlatModel(module), batch()
    buffers = model.buffers()
    loss, _ = model.tracked_loss(model.theta(), given, buffers)
    plain = copy.deepcopy(module)
    assert loss.item() == pytest.approx(F.cross_entropy(plain(given[0]), given[1]).item())
    assert torch.equal(buffers["1.running_mean"], module[1].running_mean)
    assert [layer.training for layer in module] == [True, False, False, True]
    # a frozen layer uses what it has kept in validation too
    assert model.validation_loss(model.theta(), given).item() == pytest.approx(loss.item())


def test_validation_uses_batch_statistics_and_no_dropout() -> None:
    module, given = normalised(), batch()
    model = FlatModel(module)
    once, again = (model.validation_loss(model.theta(), given) for _ in range(2))
    assert torch.equal(once, again)
    plain = copy.deepcopy(module)
    plain[2].eval()
    assert once.item() == pytest.approx(F.cross_entropy(plain(given[0]), given[1]).item())


class Averages(nn.Module):
    """Assigns a buffer anew in every call."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.5 * self.mean + 0.5 * x.mean(0)
        return self.linear(x)


def test_a_buffer_that_is_assigned_anew_is_carried_on() -> None:
    model, given = FlatModel(Averages().to(DOUBLE)), batch()
    buffers = model.buffers()
    for _ in range(2):
        model.tracked_loss(model.theta(), given, buffers)
    torch.testing.assert_close(buffers["mean"], 0.75 * given[0].mean(0))
    model.loss(model.theta(), given, buffers)
    torch.testing.assert_close(buffers["mean"], 0.75 * given[0].mean(0))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.LazyLinear(3)), "'0' .LazyLinear. does not know its shapes yet: call"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), "more than one dtype"),
        (nn.ReLU(), "no trainable parameters"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(module: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlatModel(module)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_hook_that_keeps_what_it_computed_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'0' .Linear. keeps 'weight', a tensor that it has comp"):
        FlatModel(nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 2))))


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.Dropout(0.1), "'1' (Dropout)"),
        (Noise(), "'1' (Noise)"),
        (nn.MultiheadAttention(5, 1, dropout=0.3), "'1.inside' (MultiheadAttention)"),
        (nn.Dropout(0.1).eval(), None),
        (nn.Tanh(), None),
    ],
)
def test_what_draws_random_numbers_is_named(layer: nn.Module, name: str | None) -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.inside(x, x, x)[0]

    one = Attending() if isinstance(layer, nn.MultiheadAttention) else layer
    model = FlatModel(nn.Sequential(nn.Linear(6, 5), one, nn.Linear(5, 3)).to(DOUBLE))
    assert model.random_source(batch()) == name


def test_a_loss_that_draws_is_named() -> None:
    def noisy(predictions: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(predictions + torch.randn_like(predictions), labels)

    assert FlatModel(nn.Linear(6, 3).to(DOUBLE), noisy).random_source(batch()) == "the loss"
