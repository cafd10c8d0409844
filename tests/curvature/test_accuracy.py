"""Rounding in single precision: no strategy loses more of it than plain PyTorch does."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from problems import digits_problem
from torch import Tensor, nn
from torch.func import functional_call

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.curvature import gradient_and_multiplier, gradient_and_products
from hypergrad.curvature.batch_norm_statistics import standardise
from hypergrad.curvature.fused import Fused
from hypergrad.models import build

IMAGE, CLASSES = (3, 32, 32), 10


def head(features: int) -> tuple[nn.Module, nn.Module]:
    return nn.Flatten(), nn.Linear(features, CLASSES)


def clear_of_kinks() -> nn.Module:
    """A WRN-16-1 hardly any of whose activations are near zero.

    Otherwise a few of its millions are rectified or not by how they are rounded, in any strategy:
    whole terms come and go by chance, and hide what rounding itself does.
    """
    net = build("wrn", IMAGE, CLASSES, options={"width": 1})
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias[::2], module.bias[1::2] = 3.0, -3.0
    return net


NETS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 4, 3, stride=2), *head(900)
    ),
    "batch normalisation": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Tanh(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8),
        nn.Tanh(), *head(6272),
    ),
    "rectified normalisation": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), *head(7200)
    ),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 32), nn.Tanh(), *head(32)),
    "maximum pooling": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.MaxPool2d(3, 2), nn.Tanh(), *head(1568)
    ),
    "average pooling": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.AvgPool2d(2), nn.Tanh(), *head(1800)
    ),
    "lenet": lambda: build("lenet", IMAGE, CLASSES),
    "wrn": clear_of_kinks,
}  # fmt: skip
CHAINS = ("convolution", "linear", "maximum pooling", "lenet")
MODES = ("vmap", "stacked", "fused", "reverse")
CASES = [(name, mode) for name in NETS for mode in MODES if mode != "stacked" or name in CHAINS]


@cache
def digits() -> Batch:
    """32 digits: upright, upside down and transposed, for three channels."""
    problem = digits_problem("mlp", dtype=torch.float32)
    upright = F.interpolate(problem.images[:32], size=IMAGE[1:], mode="bilinear", antialias=True)
    return torch.cat([upright, upright.flip(2), upright.mT], dim=1), problem.labels[:32]


def products(net: nn.Module, mode: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The gradient, and two products."""
    model, (x, y) = FlatModel(net.to(dtype)), digits()
    theta, batch = model.theta(), (x.to(dtype), y)
    Z = torch.randn(2, model.size, generator=torch.Generator().manual_seed(0)).to(dtype)
    if mode == "reverse":
        g, multiply = gradient_and_multiplier(lambda point: model.loss(point, batch), theta)
        return g, multiply(Z)
    return gradient_and_products(lambda point: model.loss(point, batch), theta, Z, mode)


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETS[name]()


@cache
def exact(name: str) -> tuple[Tensor, Tensor]:
    return products(network(name), "loop", torch.float64)


@cache
def errors(name: str, mode: str) -> list[float]:
    """Relative errors in single precision, of the gradient and of the products."""
    found = products(network(name), mode, torch.float32)
    return [
        float((ours - theirs).norm() / theirs.norm())
        for ours, theirs in zip(found, exact(name), strict=True)
    ]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_single_precision_costs_no_more_than_the_plain_loop(name: str, mode: str) -> None:
    """`loop` is PyTorch as it is, on contiguous activations."""
    for ours, plain in zip(errors(name, mode), errors(name, "loop"), strict=True):
        assert plain < 2e-5  # rounding, and nothing else
        assert ours < 2 * plain


def channels_last(B: int, C: int, H: int, W: int) -> Tensor:
    """Channels of different means, most of them larger than the deviation."""
    x = torch.randn(B, C, H, W, generator=torch.Generator().manual_seed(0))
    x += torch.linspace(-4, 4, C)[:, None, None]
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "shape", [(64, 16, 32, 32), (1, 3, 17, 1), (7, 5, 11, 13), (2, 4, 1, 1), (331, 3, 1, 1)]
)
def test_statistics_are_as_exact_as_of_contiguous_activations(shape: tuple) -> None:
    x = channels_last(*shape)
    variance, mean = torch.var_mean(x.double(), (0, 2, 3), correction=0)
    scale = (variance + 1e-5).rsqrt()
    h, s = standardise(x, None, None, 0.1, 1e-5)
    assert h.stride() == x.stride()
    torch.testing.assert_close(s.double(), scale, rtol=5e-7, atol=0)
    expected = (x.double() - mean[:, None, None]) * scale[:, None, None]
    torch.testing.assert_close(h.double(), expected, rtol=0, atol=2e-5)


def test_running_statistics_with_the_channels_last_are_those_of_pytorch() -> None:
    net, x = nn.BatchNorm2d(16), channels_last(8, 16, 6, 5)
    ours, theirs = FlatModel(net).buffers(), FlatModel(net).buffers()
    for _ in range(3):
        functional_call(net.train(), theirs, (x.contiguous(),))
        with Fused():
            functional_call(net.train(), ours, (x,))
    for name, buffer in theirs.items():
        torch.testing.assert_close(ours[name], buffer, rtol=1e-6, atol=1e-6)
    assert int(ours["num_batches_tracked"]) == 3
