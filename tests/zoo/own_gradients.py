"""Gradients that are not those of the forward pass: detached, reversed, or written by hand."""

from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from zoo.network import Around, Network

Context: TypeAlias = Any  # what PyTorch hands to a Function has no type

GRADIENT = "detach|no_grad|gradient|derivative|symmetric|backward"


class ScaledWithoutGradient(Around):
    def inside(self, h: Tensor) -> Tensor:
        with torch.no_grad():
            scale = h.square().mean().sqrt()
        return h / scale


class Detached(Around):
    """A target that is not learned from, as of a frozen branch."""

    def inside(self, h: Tensor) -> Tensor:
        return h * torch.sigmoid(h.detach().sum(dim=1, keepdim=True))


class DetachedInput(Around):
    """Of something that no weight has a part in: harmless."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / x.detach().square().mean().sqrt())


class StraightThrough(Around):
    """Forward a steep sigmoid, backward the identity."""

    def inside(self, h: Tensor) -> Tensor:
        return h + (torch.tanh(2 * h) - h).detach()


class StopHalf(Around):
    """As between the sides of a Siamese network."""

    def inside(self, h: Tensor) -> Tensor:
        a, b = h.chunk(2, dim=1)
        return torch.cat([a * b.detach(), b * a.detach()], dim=1)


class DataAttribute(Around):
    """`.data`, which autograd does not see."""

    def inside(self, h: Tensor) -> Tensor:
        return h * (1 + self.head.weight.data.square().mean())


class Item(Around):
    """A Python number made of an activation."""

    def inside(self, h: Tensor) -> Tensor:
        return h / h.detach().square().mean().item()


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Tensor:  # type: ignore[override]
        return -0.5 * g


class _Cube(torch.autograd.Function):
    """Right, and twice differentiable."""

    @staticmethod
    def forward(ctx: Context, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3 / 3

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return g * x**2


class _CubeForFunctions(torch.autograd.Function):
    """The same in the form that `torch.func` wants."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:  # type: ignore[override]
        return x**3 / 3

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return g * x**2

    @staticmethod
    def jvp(ctx: Context, t: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return t * x**2


class _CubeOnce(_Cube):
    """Its author says that it can be differentiated once.

    `torch.autograd.grad` with `inputs` leaves out what its second derivative would raise.
    """

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, g: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return g * x**2


class _CubeKept(torch.autograd.Function):
    """It keeps a number of its own, so that its second derivative is wrong without a word."""

    @staticmethod
    def forward(ctx: Context, x: Tensor) -> Tensor:
        ctx.slope = x**2
        return x**3 / 3

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Tensor:  # type: ignore[override]
        return g * ctx.slope


class Applied(Around):
    """A function of one's own between two layers."""

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__(nn.Linear(6, 6))
        self.function = function

    def inside(self, h: Tensor) -> Tensor:
        return torch.tanh(self.middle(self.function.apply(h)))  # type: ignore[arg-type]


class Inner(Around):
    """A gradient inside the forward pass, as in energy models."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 6))

    def inside(self, h: Tensor) -> Tensor:
        with torch.enable_grad():
            h = h if h.requires_grad else h.detach().requires_grad_()
            energy = torch.tanh(self.middle(h)).square().sum()
            return torch.autograd.grad(energy, h, create_graph=True)[0]


NETWORKS = (
    Network("a scale under no_grad", ScaledWithoutGradient, "either", GRADIENT),
    Network("a detached gate", Detached, "either", GRADIENT),
    Network(
        "a detached function of the inputs", lambda: DetachedInput(nn.Tanh()), "either", GRADIENT
    ),
    Network("straight-through", StraightThrough, "either", GRADIENT),
    Network("stop-gradient between two halves", StopHalf, "either", GRADIENT),
    Network(".data of a weight", DataAttribute, "either", GRADIENT),
    Network("a Python number of an activation", Item, "either", GRADIENT),
    Network("gradient reversal", lambda: Applied(_Reversal), "either", f"{GRADIENT}|Reversal"),
    Network("a Function of one's own", lambda: Applied(_Cube)),
    Network("a Function for torch.func", lambda: Applied(_CubeForFunctions)),
    Network(
        "a Function that is once differentiable",
        lambda: Applied(_CubeOnce),
        "either",
        f"{GRADIENT}|Cube|differentiable",
    ),
    Network(
        "a Function with a wrong second derivative",
        lambda: Applied(_CubeKept),
        "either",
        f"{GRADIENT}|Cube",
    ),
    Network("a gradient inside the network", Inner, "either"),
)
