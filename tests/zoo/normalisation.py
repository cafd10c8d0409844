"""Normalisation, in each mode that people leave it in."""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo.network import Around, Network, OnImages


def frozen_by_eval() -> nn.Module:
    """The idiom of fine-tuning: `.eval()` on the layer, after some training."""
    net = Around(nn.BatchNorm1d(6))
    with torch.no_grad():
        net(torch.randn(32, 16))
    net.middle.eval()
    return net


class FrozenByOverride(Around):
    """The other idiom: `train` never reaches the layer."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm1d(6))
        with torch.no_grad():
            self(torch.randn(32, 16))
        self.train()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.middle.eval()
        return self


class Functional(Around):
    """Batch statistics without a layer, and no running ones."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))

    def inside(self, h: Tensor) -> Tensor:
        return F.batch_norm(h, None, None, self.scale, training=True)


class FunctionalRunning(Around):
    """With running statistics: what evaluation uses then depends on the whole training."""

    mean: Tensor
    var: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("var", torch.ones(6))

    def inside(self, h: Tensor) -> Tensor:
        return F.batch_norm(h, self.mean, self.var, training=self.training)


class BatchNormByHand(Around):
    def inside(self, h: Tensor) -> Tensor:
        return (h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-3).sqrt()


class RMSNormByHand(Around):
    """As in language models."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(6))

    def inside(self, h: Tensor) -> Tensor:
        return self.gain * h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-5)


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Linear(16, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)
    )  # what `stacked` is for


def in_evaluation() -> nn.Module:
    """Everything in evaluation mode, as a network comes from `from_pretrained`."""
    return Around(nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5))).eval()


NETWORKS = (
    Network("batch norm in a plain chain", chain),
    Network("batch norm, training", lambda: Around(nn.BatchNorm1d(6))),
    Network("batch norm frozen by .eval()", frozen_by_eval),
    Network("batch norm frozen by its own train()", FrozenByOverride),
    Network("batch norm, momentum=None", lambda: Around(nn.BatchNorm1d(6, momentum=None))),
    Network("batch norm, affine=False", lambda: Around(nn.BatchNorm1d(6, affine=False))),
    Network(
        "batch norm, track_running_stats=False",
        lambda: Around(nn.BatchNorm1d(6, track_running_stats=False)),
    ),
    Network("batch norm after a convolution", lambda: OnImages(nn.BatchNorm2d(3))),
    Network("batch norm, functional", Functional),
    Network(
        "batch norm, functional with running statistics",
        FunctionalRunning,
        "either",
        "mean|var|batch_norm",
    ),
    Network("batch norm by hand", BatchNormByHand),
    Network("all of it in evaluation mode", in_evaluation),
    Network("layer norm", lambda: Around(nn.LayerNorm(6))),
    Network("group norm", lambda: OnImages(nn.GroupNorm(3, 3))),
    Network("instance norm", lambda: OnImages(nn.InstanceNorm2d(3, affine=True))),
    Network(
        "instance norm with running statistics",
        lambda: OnImages(nn.InstanceNorm2d(3, track_running_stats=True)),
        "either",
    ),
    Network("RMS norm", lambda: Around(nn.RMSNorm(6))),
    Network("RMS norm by hand", RMSNormByHand),
)
