"""Networks that draw random numbers: dropout in every form, noise, stochastic depth.

Normal numbers are drawn in float64, so that those of float32 are the same: PyTorch draws others.
"""

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo.network import Around, Network, OnImages

DRAWS = "dropout|draw|random|generator"


class FunctionalDropout(Around):
    def inside(self, h: Tensor) -> Tensor:
        return F.dropout(h, 0.3, self.training)


class AlwaysOn(Around):
    """Dropout that evaluation does not switch off."""

    def inside(self, h: Tensor) -> Tensor:
        return F.dropout(h, 0.3)


class Noise(Around):
    def inside(self, h: Tensor) -> Tensor:
        if not self.training:
            return h
        return h + 0.3 * torch.randn_like(h, dtype=torch.float64).to(h)


class OwnGenerator(Around):
    """It draws from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(5)

    def inside(self, h: Tensor) -> Tensor:
        if not self.training:
            return h
        noise = torch.randn(h.shape, generator=self.generator, dtype=torch.float64)
        return h * (1 + 0.3 * noise.to(h))


class StochasticDepth(Around):
    """A branch is left out of whole batches."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Linear(6, 6), nn.Tanh()))

    def inside(self, h: Tensor) -> Tensor:
        if self.training and torch.rand(()) < 0.5:
            return h
        return h + self.middle(h)


class StochasticDepthOfPython(StochasticDepth):
    """The same, by a generator of Python's that PyTorch does not know of."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = random.Random(3)

    def inside(self, h: Tensor) -> Tensor:
        if self.training and self.dice.random() < 0.5:
            return h
        return h + self.middle(h)


class PerExample(StochasticDepth):
    """A branch is left out of some examples, by `bernoulli_`."""

    def inside(self, h: Tensor) -> Tensor:
        if not self.training:
            return h + self.middle(h)
        keep = torch.empty(len(h), 1, dtype=h.dtype).bernoulli_(0.6)
        return h + self.middle(h) * keep / 0.6


class DropConnect(Around):
    """Weights are left out, not activations."""

    middle: nn.Linear

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 6))

    def inside(self, h: Tensor) -> Tensor:
        weight = F.dropout(self.middle.weight, 0.3, self.training)
        return torch.tanh(F.linear(h, weight, self.middle.bias))


class Gumbel(Around):
    def inside(self, h: Tensor) -> Tensor:
        return F.gumbel_softmax(h, tau=2.0) if self.training else (h / 2).softmax(dim=1)


class Variational(Around):
    """A sample by reparametrisation, and its entropy as another input."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 12))

    def inside(self, h: Tensor) -> Tensor:
        mean, spread = self.middle(h).chunk(2, dim=1)
        spread = F.softplus(spread)
        sample = torch.distributions.Normal(mean.double(), spread.double()).rsample()
        return sample.to(h) if self.training else mean


class InEvaluation(Around):
    """One dropout layer was left in evaluation mode."""

    def __init__(self) -> None:
        super().__init__(nn.Dropout(0.5))
        self.middle.eval()


class Mixed(nn.Module):
    """Mixup inside the network: examples are paired at random."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Around(nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = 0.8 * x + 0.2 * x[torch.randperm(len(x))]
        return self.body(x)


def chain() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 3))


NETWORKS = (
    Network("Dropout", lambda: Around(nn.Dropout(0.3)), "either", DRAWS),
    Network("Dropout in a plain chain", chain, "either", DRAWS),
    Network("Dropout in evaluation mode", InEvaluation, "exact", DRAWS),
    Network("Dropout2d", lambda: OnImages(nn.Dropout2d(0.3)), "either", DRAWS),
    Network("AlphaDropout", lambda: Around(nn.AlphaDropout(0.2)), "either", DRAWS),
    Network("F.dropout", FunctionalDropout, "either", DRAWS),
    Network("F.dropout that is always on", AlwaysOn, "either", DRAWS),
    Network("DropConnect", DropConnect, "either", DRAWS),
    Network("RReLU", lambda: Around(nn.RReLU()), "either", DRAWS),
    Network("noise by randn_like", Noise, "either", DRAWS),
    Network("noise from a generator of one's own", OwnGenerator, "either", DRAWS),
    Network("stochastic depth", StochasticDepth, "either", DRAWS),
    Network("stochastic depth by Python's random", StochasticDepthOfPython, "either", "dice|state"),
    Network("stochastic depth by example", PerExample, "either", DRAWS),
    Network("Gumbel softmax", Gumbel, "either", DRAWS),
    Network("reparametrised sample", Variational, "either", DRAWS),
    Network("mixup in the network", Mixed, "either", DRAWS),
)
