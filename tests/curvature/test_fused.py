"""Hand-written double backward passes, layer by layer, against the loop and the dense Hessian."""

import pytest
import torch
import torch.nn.functional as F
from seeded import reinitialise
from torch import Tensor, nn
from torch.autograd.functional import hessian

from hypergrad.core.functional_model import FlatModel
from hypergrad.curvature import gradient_and_multiplier, gradient_and_products
from hypergrad.curvature.fused import Fused


class Head(nn.Sequential):
    """Layers, and a mean over pixels that is not linear in what they give."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.tanh(super().forward(input)).flatten(2).mean(2)


def block(norm: nn.Module, *after: nn.Module) -> nn.Module:
    return Head(nn.Conv2d(2, 4, 2, bias=False), norm, *after)


NETS: dict[str, nn.Module] = {
    "convolution": Head(nn.Conv2d(2, 3, 3)),
    "no bias": Head(nn.Conv2d(2, 3, 2, bias=False), nn.Tanh(), nn.Conv2d(3, 3, 2, bias=False)),
    "stride, padding": Head(nn.Conv2d(2, 3, (3, 2), (2, 1), (1, 0)), nn.Conv2d(3, 3, 2, 2)),
    "dilation, groups": Head(
        nn.Conv2d(2, 4, 2, dilation=2, groups=2), nn.Tanh(), nn.Conv2d(4, 3, 1)
    ),
    "padding in words": Head(
        nn.Conv2d(2, 3, 3, padding="same"), nn.Conv2d(3, 3, 3, padding="same")
    ),
    "normalised": block(nn.BatchNorm2d(4)),
    "normalised, not affine": block(nn.BatchNorm2d(4, affine=False)),
    "normalised, rectified": block(nn.BatchNorm2d(4), nn.ReLU()),
    "not affine, rectified": block(nn.BatchNorm2d(4, affine=False), nn.ReLU()),
    "rectified in place": block(nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
    "no statistics kept": block(nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU()),
    "input normalised": Head(nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 3, 2)),
    "twice": block(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.BatchNorm2d(4), nn.ReLU()),
    "one dimension": nn.Sequential(
        nn.Flatten(), nn.Linear(40, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)
    ),
}


class Shared(nn.Module):
    """Both a normalised value and its rectification are used, and one convolution twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 1)
        self.norm, self.other = nn.BatchNorm2d(3), nn.GroupNorm(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x))
        z = self.again(torch.relu(y)) + F.relu(y, inplace=True)
        return self.other(self.again(F.gelu(z)) + y).amax((2, 3))


NETS["a network of one's own"] = Shared()


class Residual(nn.Module):
    """What a normalisation gives is changed in place before it is rectified."""

    def __init__(self, scale: bool) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.norm(x)
        if self.scale:
            y[:, 0] = 0.5
            y.mul_(2)
        else:
            y += x
        return torch.tanh(F.relu(y)).mean((2, 3))


NETS["a sum in place"] = Residual(scale=False)
NETS["other changes in place"] = Residual(scale=True)


def problem(net: nn.Module) -> tuple[FlatModel, Tensor, Tensor, Tensor]:
    """A model with generic weights, a batch of six, and three tangents: the same in any order."""
    torch.manual_seed(0)
    model = FlatModel(reinitialise(net.double()))
    x, y = torch.randn(6, 2, 5, 4, dtype=torch.float64), torch.tensor([0, 2, 1, 0, 1, 1])
    theta = model.theta() + 0.3 * torch.randn(model.size, dtype=torch.float64)
    model.load(theta, {})
    return model, x, y, torch.randn(3, model.size, dtype=torch.float64)


def test_weights_are_those_of_the_seed_whatever_ran_before() -> None:
    first = problem(NETS["a network of one's own"])[0].theta().clone()
    torch.manual_seed(7)
    again = problem(NETS["a network of one's own"])[0].theta()  # which the first has changed
    assert torch.equal(first, again)


@pytest.mark.parametrize("name", NETS)
def test_every_layer_equals_the_loop_and_the_dense_hessian(name: str) -> None:
    model, x, y, Z = problem(NETS[name])

    def loss(theta: Tensor) -> Tensor:
        return model.loss(theta, (x, y))

    theta = model.theta()
    g, HZ = gradient_and_products(loss, theta, Z, "fused")
    expected = gradient_and_products(loss, theta, Z, "loop")
    torch.testing.assert_close((g, HZ), expected, rtol=1e-10, atol=1e-12)
    # Not torch.func.hessian, which is wrong for a normalisation with weights (its own asymmetry
    # and central differences show it).
    torch.testing.assert_close(HZ, Z @ hessian(loss, theta), rtol=1e-9, atol=1e-11)
    assert float(Z[0] @ HZ[1]) == pytest.approx(float(Z[1] @ HZ[0]), rel=1e-9)
    g, multiply = gradient_and_multiplier(loss, theta)
    torch.testing.assert_close((g, multiply(Z)), expected, rtol=1e-10, atol=1e-12)


class Viewed(nn.Sequential):
    """Views the output of a convolution, which must be laid out as PyTorch's own is."""

    def forward(self, input: Tensor) -> Tensor:
        y = self[0](input)
        return self[1](torch.tanh(y).view(len(input), -1)) + y.view(len(y), 3, -1).mean(2)


def test_a_view_of_a_convolution() -> None:
    model, x, y, Z = problem(Viewed(nn.Conv2d(2, 3, 2), nn.Linear(36, 3)))
    exact = gradient_and_products(lambda t: model.loss(t, (x, y)), model.theta(), Z, "loop")
    single = FlatModel(model.module.float())  # in float32 the channels come last
    ours = gradient_and_products(
        lambda t: single.loss(t, (x.float(), y)), single.theta(), Z.float(), "fused"
    )
    for found, expected in zip(ours, exact, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frozen", ["0.weight", "1.weight", "1.bias", "3.weight", "3.bias"])
def test_frozen_weights_are_constants(frozen: str) -> None:
    net = Head(nn.Conv2d(2, 3, 2, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 2))
    net.get_parameter(frozen).requires_grad_(False)
    model, x, y, Z = problem(net)

    def loss(theta: Tensor) -> Tensor:
        return model.loss(theta, (x, y))

    ours = gradient_and_products(loss, model.theta(), Z, "fused")
    expected = gradient_and_products(loss, model.theta(), Z, "loop")
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_are_those_of_pytorch(momentum: float | None) -> None:
    net = nn.Sequential(nn.BatchNorm2d(2, momentum=momentum), nn.ReLU())
    own, theirs = FlatModel(net).buffers(), FlatModel(net).buffers()
    x = 3 + torch.randn(6, 2, 5, 4)
    for buffers, mode in ((own, Fused()), (theirs, torch.enable_grad())):
        with mode:
            torch.func.functional_call(net.train(), buffers, (x,))
    for name, buffer in theirs.items():
        assert torch.equal(own[name], buffer)
    assert int(own["0.num_batches_tracked"]) == 1


def test_normalisation_by_running_statistics_is_left_to_pytorch() -> None:
    net = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()).eval()
    x = torch.randn(6, 2, 5, 4)
    with Fused():
        fused = net(x)
    assert torch.equal(fused, net(x))
    with Fused(), pytest.raises(ValueError, match="more than 1 value per channel"):
        net.train()(torch.ones(1, 2, 1, 1))


def test_dropout_keeps_one_mask() -> None:
    model, x, y, Z = problem(block(nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)))

    def products(strategy: str) -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)
        return gradient_and_products(
            lambda theta: model.tracked_loss(theta, (x, y), model.buffers())[0],
            model.theta(),
            Z,
            strategy,
        )

    torch.testing.assert_close(products("fused"), products("loop"), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("strategy", ["loop", "fused"])
def test_float32_agrees_with_float64_on_a_smooth_network(strategy: str) -> None:
    net = block(nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 3, 2))
    model, x, y, Z = problem(net)
    exact = gradient_and_products(lambda t: model.loss(t, (x, y)), model.theta(), Z, "loop")[1]
    single = FlatModel(net.float())
    HZ = gradient_and_products(
        lambda t: single.loss(t, (x.float(), y)), single.theta(), Z.float(), strategy
    )[1]
    error = torch.linalg.vector_norm(HZ.double() - exact) / torch.linalg.vector_norm(exact)
    assert float(error) < 1e-5  # float32 rounds at 6e-8; a missing term shows at 1e-1
