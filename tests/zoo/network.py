"""One network of the zoo: how it is made, what it is trained on, and what the library owes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batch = Any  # any nest of tensors
Values = Mapping[str, Tensor]
Loss = Callable[[nn.Module, Batch, Values], Any]

FEATURES, CLASSES = 16, 3
TOKENS = 7


def cross_entropy(module: nn.Module, batch: Batch, values: Values) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1])


def vectors(index: int, size: int) -> tuple[Tensor, Tensor]:
    """`(size, 16)` inputs whose labels can be learned, in float64; a batch of its own an index."""
    generator = torch.Generator().manual_seed(100 + index)
    x = torch.randn(size, FEATURES, generator=generator, dtype=torch.float64)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0.3).long()


def tokens(index: int, size: int) -> tuple[Tensor, Tensor]:
    """`(size, 4)` token numbers, some of them several times in a batch."""
    generator = torch.Generator().manual_seed(200 + index)
    x = torch.randint(0, TOKENS, (size, 4), generator=generator)
    return x, x.sum(dim=1) % CLASSES


def halves(index: int, size: int) -> dict[str, Tensor]:
    x, labels = vectors(index, size)
    return {"left": x[:, :8], "right": x[:, 8:], "labels": labels}


@dataclass(frozen=True)
class Network:
    """A small network of the sort that people bring.

    Attributes:
        name: As in the table of `docs/zoo.md`.
        make: Makes it, in float32 and in the modes that its user leaves it in.
        expected: `exact`: the strategy `loop` must be exact. `refused`: nothing can be exact here,
            so that each strategy must refuse. `either`. Whatever is not exact must be refused.
        names: A refusal names one of the network's classes or attributes, a strategy, or this
            (a regular expression).
        loss: Of the module that is handed over: most losses do not need it.
        batches: Maps an index and a size to a batch.
        own_type: Of its data, if it stays in its own precision, whatever is asked.
        warns: Regular expressions of PyTorch's warnings that are this network's own.
        slow: Whether even one strategy takes seconds.
    """

    name: str
    make: Callable[[], nn.Module]
    expected: Literal["exact", "refused", "either"] = "exact"
    names: str = ""
    loss: Callable[[nn.Module], Loss] = lambda module: cross_entropy
    batches: Callable[[int, int], Batch] = vectors
    own_type: torch.dtype | None = None
    warns: Sequence[str] = ()
    slow: bool = False

    def build(self, dtype: torch.dtype) -> nn.Module:
        """Return the same weights every time; the global generator is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = self.make()
        return module.to(dtype) if self.own_type is None else module


class Around(nn.Module):
    """A layer of the given width before and after what a network is about."""

    def __init__(self, middle: nn.Module | None = None, width: int = 6) -> None:
        super().__init__()
        self.squeeze = nn.Linear(FEATURES, width)
        if middle is not None:
            self.middle = middle
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inside(torch.tanh(self.squeeze(x))))

    def inside(self, h: Tensor) -> Tensor:
        return self.middle(h)


class OnImages(nn.Module):
    """The inputs as images of 4 x 4 pixels under a convolution of three channels."""

    def __init__(self, middle: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        if middle is not None:
            self.middle = middle
        self.head = nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inside(self.conv(x.view(-1, 1, 4, 4))))

    def inside(self, h: Tensor) -> Tensor:
        return torch.tanh(self.middle(h)).flatten(1)


class OnSequences(nn.Module):
    """The inputs as four steps of four features, as a sequence; the mean over it is classified."""

    def __init__(self, middle: nn.Module | None = None, width: int = 4) -> None:
        super().__init__()
        if middle is not None:
            self.middle = middle
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inside(x.view(-1, 4, 4)).mean(dim=1))

    def inside(self, h: Tensor) -> Tensor:
        return self.middle(h)
