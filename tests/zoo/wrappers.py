"""Modules inside something else: compiled, parallel, lazy, scripted, of low precision."""

import torch
from torch import Tensor, nn
from zoo.network import Around, Network


def plain() -> nn.Module:
    return Around(nn.Sequential(nn.Linear(6, 6), nn.GELU()))


def compiled() -> nn.Module:
    # Without a compiler of kernels, so that it works anywhere; the graph is captured all the same.
    return torch.compile(plain(), backend="aot_eager")  # type: ignore[return-value]


def compiled_inside() -> nn.Module:
    net = plain()
    net.get_submodule("middle").compile(backend="aot_eager")
    return net


class Delegating(nn.Module):
    """A wrapper that passes on what it does not know, as trainers' wrappers do."""

    def __init__(self) -> None:
        super().__init__()
        self.wrapped = plain()

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("wrapped"), name)

    def forward(self, *args: Tensor) -> Tensor:
        return self.wrapped(*args)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(6), nn.Tanh(), nn.LazyLinear(3))


def lazy_made() -> nn.Module:
    net = lazy()
    net(torch.zeros(2, 16))
    return net


def in_bfloat16() -> nn.Module:
    return plain().to(torch.bfloat16)


class Autocast(Around):
    """Arithmetic in bfloat16 inside a module of full precision."""

    def inside(self, h: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.middle(h).to(h.dtype)


class Complex(Around):
    """A complex parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.randn(6, 6, dtype=torch.complex64))

    def inside(self, h: Tensor) -> Tensor:
        return torch.tanh((h.to(self.turn.dtype) @ self.turn).real)


NO_LEAF = ".*The .grad attribute of a Tensor that is not a leaf"  # torch.compile looks at it

NETWORKS = (
    Network("torch.compile", compiled, "either", "compile", warns=(NO_LEAF,), slow=True),
    Network(
        "a compiled submodule", compiled_inside, "either", "compile", warns=(NO_LEAF,), slow=True
    ),
    Network("DataParallel", lambda: nn.DataParallel(plain()), "either", "DataParallel"),
    Network("a wrapper that delegates", Delegating),
    Network("lazy modules", lazy, "refused", "[lL]azy|[uU]ninitiali"),
    Network("lazy modules after a dry run", lazy_made),
    Network("a module in bfloat16", in_bfloat16, "refused", "bfloat16", own_type=torch.bfloat16),
    Network(
        "a module in float16", lambda: plain().half(), "refused", "float16", own_type=torch.float16
    ),
    Network("a complex parameter", Complex, "refused", "complex", own_type=torch.float32),
)
