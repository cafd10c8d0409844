"""Weights that are computed from other weights."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm
from zoo.network import Around, Network, OnImages

OLD_WEIGHT_NORM = ".*weight_norm.* is deprecated"


def linear() -> nn.Linear:
    return nn.Linear(6, 6)


class Symmetric(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w.triu() + w.triu(1).mT


class Positive(nn.Module):
    """In a bias, with its inverse."""

    def forward(self, b: Tensor) -> Tensor:
        return torch.nn.functional.softplus(b)

    def right_inverse(self, b: Tensor) -> Tensor:
        return torch.log(torch.expm1(b.abs() + 0.1))


def parametrised(name: str, parametrization: nn.Module) -> nn.Module:
    net = Around(linear())
    parametrize.register_parametrization(net.middle, name, parametrization)
    return net


class Standardised(nn.Conv2d):
    """Weight standardisation, as in BiT."""

    def forward(self, input: Tensor) -> Tensor:
        w = self.weight
        mean, var = w.mean((1, 2, 3), keepdim=True), w.var((1, 2, 3), keepdim=True)
        return self._conv_forward(input, (w - mean) / (var + 1e-3).sqrt(), self.bias)


class LowRank(Around):
    """LoRA: a frozen matrix and two small ones that are trained."""

    def __init__(self) -> None:
        super().__init__(linear().requires_grad_(False))
        self.down, self.up = nn.Parameter(torch.randn(2, 6)), nn.Parameter(torch.zeros(6, 2))

    def inside(self, h: Tensor) -> Tensor:
        return torch.tanh(self.middle(h) + h @ self.down.T @ self.up.T)


class Hyper(Around):
    """A network that makes another's weights."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 36))
        self.code = nn.Parameter(torch.randn(2))

    def inside(self, h: Tensor) -> Tensor:
        return torch.tanh(h @ self.middle(self.code).view(6, 6))


NETWORKS = (
    Network(
        "spectral_norm, parametrised",
        lambda: Around(parametrizations.spectral_norm(linear())),
        "either",
        "[sS]pectral",
    ),
    Network(
        "spectral_norm, old style",
        lambda: Around(spectral_norm(linear())),
        "either",
        "[sS]pectral",
    ),
    Network(
        "weight_norm, parametrised",
        lambda: Around(parametrizations.weight_norm(linear())),
        "either",
        "[wW]eight_?[nN]orm",
    ),
    Network(
        "weight_norm, old style",
        lambda: Around(weight_norm(linear())),
        "either",
        "[wW]eight_?[nN]orm",
        warns=(OLD_WEIGHT_NORM,),
    ),
    Network("orthogonal", lambda: Around(parametrizations.orthogonal(linear())), "either"),
    Network("a parametrisation of one's own", lambda: parametrised("weight", Symmetric())),
    Network("a parametrised bias", lambda: parametrised("bias", Positive())),
    Network("weight standardisation", lambda: OnImages(Standardised(3, 3, 3, padding=1))),
    Network("LoRA", LowRank),
    Network("weights made by a network", Hyper),
)
