"""The stacked strategy, layer by layer, against the loop and the dense Hessian."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import jacrev

from hypergrad.core.functional_model import FlatModel
from hypergrad.curvature import check_stackable, gradient_and_products

CHAINS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(5, 3), (5,)),
    "no bias": (nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 3)), (5,)),
    "convolution": (nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten()), (2, 4, 3)),
    "two convolutions": (
        nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Conv2d(2, 2, 2), nn.Flatten()),
        (1, 4, 4),
    ),
    "stride, padding, dilation": (
        nn.Sequential(
            nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)),
            nn.Tanh(),
            nn.Conv2d(3, 2, 2, stride=2, padding=1, dilation=2, bias=False),
            nn.Flatten(),
        ),
        (2, 7, 6),
    ),
    "groups": (
        nn.Sequential(
            nn.Conv2d(4, 6, 2, groups=2), nn.Tanh(), nn.Conv2d(6, 6, 2, groups=3), nn.Flatten()
        ),
        (4, 4, 4),
    ),
    "pooled first": (
        nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)
        ),
        (1, 6, 6),
    ),
    "pooled first, without bias, padded, in groups": (
        nn.Sequential(
            nn.Conv2d(2, 4, 2, stride=2, padding=1, dilation=2, groups=2, bias=False),
            nn.MaxPool2d(2),
            nn.Tanh(),
            nn.Flatten(),
        ),
        (2, 8, 8),
    ),
    "pools that overlap": (
        nn.Sequential(
            nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Conv2d(2, 2, 2), nn.MaxPool2d(3, 1, 1), nn.Flatten()
        ),
        (1, 5, 5),
    ),
    "pools of constants": (
        nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 3)),
        (1, 4, 4),
    ),
    "relu in place": (nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)), (5,)),
}


def problem(net: nn.Module, shape: tuple[int, ...]) -> tuple[FlatModel, Tensor, Tensor, Tensor]:
    """A model with generic weights, a batch of four, and three tangents."""
    torch.manual_seed(0)
    model = FlatModel(net.double())
    x, y = torch.randn(4, *shape, dtype=torch.float64), torch.tensor([0, 2, 1, 0])
    model.load(0.5 * torch.randn(model.size, dtype=torch.float64), {})
    return model, x, y, torch.randn(3, model.size, dtype=torch.float64)


@pytest.mark.parametrize("columns", [1, 3, 20])
@pytest.mark.parametrize("name", CHAINS)
def test_every_layer_equals_the_dense_hessian(name: str, columns: int) -> None:
    model, x, y, _ = problem(*CHAINS[name])
    Z = torch.randn(columns, model.size, dtype=torch.float64)

    def loss(theta: Tensor) -> Tensor:
        return model.loss(theta, (x, y))

    g, HZ = gradient_and_products(loss, model.theta(), Z, "stacked")
    torch.testing.assert_close(HZ, Z @ jacrev(jacrev(loss))(model.theta()), rtol=1e-10, atol=1e-13)
    expected = gradient_and_products(loss, model.theta(), Z, "loop")
    torch.testing.assert_close((g, HZ), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_labels_that_are_smoothed_or_ignored(smoothing: float) -> None:
    model, x, y, Z = problem(*CHAINS["no bias"])
    y[1] = 7

    def loss(theta: Tensor) -> Tensor:
        logits = torch.func.functional_call(model.module, model.parameters(theta), (x,))
        return F.cross_entropy(logits, y, ignore_index=7, label_smoothing=smoothing)

    ours = gradient_and_products(loss, model.theta(), Z, "stacked")
    torch.testing.assert_close(ours, gradient_and_products(loss, model.theta(), Z, "loop"))


@pytest.mark.parametrize("frozen", ["0.weight", "0.bias", "2.weight", "2.bias"])
def test_frozen_weights_are_constants(frozen: str) -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    net.get_parameter(frozen).requires_grad_(False)
    model, x, y, Z = problem(net, (5,))

    def loss(theta: Tensor) -> Tensor:
        return model.loss(theta, (x, y))

    ours = gradient_and_products(loss, model.theta(), Z, "stacked")
    torch.testing.assert_close(ours, gradient_and_products(loss, model.theta(), Z, "loop"))


class Functional(nn.Module):
    """A chain written with functions, its second weight used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 3), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.first(x)), 2, stride=3)
        x = torch.tanh(self.second(x.view(len(x), -1)))
        return self.second(x).reshape(-1, 2)


def test_functions_and_tied_weights() -> None:
    model, x, y, Z = problem(Functional(), (1, 5, 4))

    def loss(theta: Tensor) -> Tensor:
        return model.loss(theta, (x, y.clamp(max=1)))

    ours = gradient_and_products(loss, model.theta(), Z, "stacked")
    torch.testing.assert_close(ours, gradient_and_products(loss, model.theta(), Z, "loop"))


class Net(nn.Module):
    """Two linear layers and whatever stands between or around them."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.first, self.second, self.what = nn.Linear(3, 3), nn.Linear(3, 3), what
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        match self.what:
            case "residual":
                return self.second(first) + first
            case "branches":
                return self.second(x)
            case "reordered":
                return self.second(first.T)
            case "written into":
                first[:, 0] = 0.0
            case "computed weight":
                return F.linear(first, 2 * self.second.weight)
            case "scaled":
                return self.second(self.scale * first)
            case "scaled input":
                return self.second(x * self.scale)
            case "gelu":
                return self.second(F.gelu(first))
        return self.second(first)


REFUSED = {
    "residual": "torch.Tensor.add",
    "branches": "linear, whose input is not the output of the layer before it",
    "reordered": "torch.Tensor.T",
    "written into": "torch.Tensor.__setitem__",
    "computed weight": "a weight that is computed from the parameters",
    "scaled": "linear, whose input is not the output of the layer before it",
    "scaled input": "torch.Tensor.mul",
    "gelu": "gelu",
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_networks_are_refused_by_name(what: str) -> None:
    model = FlatModel(Net(what))
    x, y = torch.randn(3, 3), torch.tensor([0, 1, 2])
    named = re.escape(REFUSED[what])
    with pytest.raises(
        ValueError, match=f"strategy stacked cannot .*{named}.*: use strategy='fused'"
    ):
        check_stackable(lambda theta: model.loss(theta, (x, y)), model.theta())


def test_other_losses_are_refused() -> None:
    model, x, y, Z = problem(*CHAINS["linear"])

    def logits(theta: Tensor) -> Tensor:
        return torch.func.functional_call(model.module, model.parameters(theta), (x,))

    for loss, named in (
        (lambda theta: F.cross_entropy(logits(theta), y) + theta @ theta, "a loss other than"),
        (lambda theta: F.cross_entropy(logits(theta), y, reduction="sum"), "no mean"),
        (lambda theta: F.cross_entropy(logits(theta), y, weight=torch.ones(3).double()), "weights"),
        (lambda theta: logits(theta).square().mean(), "square"),
        (lambda theta: theta.sum(), "a loss other than"),
    ):
        with pytest.raises(ValueError, match=named):
            gradient_and_products(loss, model.theta(), Z, "stacked")


def test_words_for_padding_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding="same"), nn.Flatten())
    model, x, y, _ = problem(net, (1, 3, 3))
    with pytest.raises(ValueError, match="conv2d with its padding in words"):
        check_stackable(lambda theta: model.loss(theta, (x, y)), model.theta())
