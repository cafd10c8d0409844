"""In-place operations, in every form: directly, through views, and on what a convolution gave."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo.network import Around, Network, OnImages


class Tanh_(Around):
    def inside(self, h: Tensor) -> Tensor:
        return self.middle(h).tanh_()


class Residual(Around):
    def inside(self, h: Tensor) -> Tensor:
        out = self.middle(h)
        out += h
        return out.mul_(0.7).sigmoid_()


class Slice(Around):
    """Some of the features only."""

    def inside(self, h: Tensor) -> Tensor:
        h = self.middle(h)
        h[:, :3] *= torch.tanh(h[:, 3:])
        h[:, 0] = 0.5
        return h


class Copied(Around):
    """A buffer that is filled in."""

    def inside(self, h: Tensor) -> Tensor:
        out = h.new_zeros(len(h), 6)
        out[:, 1:].copy_(self.middle(h)[:, :5])
        return out


class ThroughView(OnImages):
    """`view`, then in place: the convolution's own output changes."""

    def inside(self, h: Tensor) -> Tensor:
        h.view(len(h), -1).clamp_(min=0)
        return h.flatten(1)


class SmoothThroughView(OnImages):
    def inside(self, h: Tensor) -> Tensor:
        h.view(len(h), -1).tanh_()
        return h.reshape(len(h), -1) * 1.5


class ThroughFlatten(OnImages):
    """`flatten` is a view or a copy, as the memory lies: here what is used is `h`."""

    def inside(self, h: Tensor) -> Tensor:
        flat = h.flatten(1)
        flat.sigmoid_()
        return torch.cat([h[:, :2].reshape(len(h), -1), flat[:, 32:]], dim=1)


class ThroughNormalised(OnImages):
    """Through a view of what batch normalisation gave."""

    def inside(self, h: Tensor) -> Tensor:
        h = self.middle(h)
        h.flatten(1).tanh_()
        return h.flatten(1)


class ThroughTranspose(Around):
    def inside(self, h: Tensor) -> Tensor:
        h = self.middle(h)
        h.t()[1].tanh_()
        h.unbind(1)
        return h


class ChannelsLast(OnImages):
    """The user's own memory format."""

    def inside(self, h: Tensor) -> Tensor:
        h = h.contiguous(memory_format=torch.channels_last)
        h.permute(0, 2, 3, 1).reshape(-1, 3).tanh_()
        return h.flatten(1)


class Silu(OnImages):
    def inside(self, h: Tensor) -> Tensor:
        return F.silu(h, inplace=True).flatten(1)


class OfTheInput(Around):
    """It changes the batch that it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(0.9))


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)),
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.SiLU(inplace=True),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


def linear() -> nn.Module:
    return nn.Linear(6, 6)


NETWORKS = (
    Network("tanh_", lambda: Tanh_(linear())),
    Network("relu_", lambda: Around(nn.Sequential(linear(), nn.ReLU(inplace=True)))),
    Network("add_ of a residual", lambda: Residual(linear())),
    Network("in place on a slice", lambda: Slice(linear())),
    Network("a buffer filled in", lambda: Copied(linear())),
    Network("clamp_ through a view of a convolution", ThroughView),
    Network("tanh_ through a view of a convolution", SmoothThroughView),
    Network("flatten(1), then in place", ThroughFlatten),
    Network("in place through a view of batch norm", lambda: ThroughNormalised(nn.BatchNorm2d(3))),
    Network("in place through a transpose", lambda: ThroughTranspose(linear())),
    Network("channels-last of one's own", ChannelsLast),
    Network("silu(inplace) after a convolution", Silu),
    Network("convolutions, batch norm, SiLU(inplace)", convolutions),
    Network("in place on the batch itself", lambda: OfTheInput(nn.Tanh()), "either", "batch|input"),
)
