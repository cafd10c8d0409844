"""Parameters that are shared, tied, frozen, unused, looked up, or used by the loss itself."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo.network import (
    CLASSES,
    TOKENS,
    Around,
    Batch,
    Loss,
    Network,
    Values,
    cross_entropy,
    halves,
    tokens,
)


class Tied(Around):
    def __init__(self) -> None:
        super().__init__()
        self.there, self.again = nn.Linear(6, 6), nn.Linear(6, 6)
        self.again.weight = self.there.weight

    def inside(self, h: Tensor) -> Tensor:
        return self.again(torch.tanh(self.there(h)))


class SharedModule(Around):
    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 6))
        self.alias = self.middle

    def inside(self, h: Tensor) -> Tensor:
        return self.alias(torch.tanh(self.middle(torch.tanh(self.middle(h)))))


def frozen(*names: str) -> nn.Module:
    net = Around(nn.Sequential(nn.Linear(6, 6), nn.Tanh()))
    for name in names:
        net.get_submodule(name).requires_grad_(False)
    return net


class Unused(Around):
    """A second head that this task does not use: `torch.optim` leaves it alone."""

    def __init__(self) -> None:
        super().__init__(nn.Tanh())
        self.other = nn.Linear(6, 2)


class InLists(Around):
    """Parameters in lists and dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.gains = nn.ParameterList([torch.randn(6) for _ in range(2)])
        self.named = nn.ParameterDict({"shift": torch.randn(6)})

    def inside(self, h: Tensor) -> Tensor:
        return torch.tanh(self.gains[0] * h + self.named["shift"]) * self.gains[1]


class Cast(Around):
    """A parameter that one's code keeps a second reference to."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(6))
        self.references = [self.gain]  # no registered list

    def inside(self, h: Tensor) -> Tensor:
        return self.references[0].to(h.dtype) * h


class Embedded(nn.Module):
    def __init__(self, rows: nn.Module) -> None:
        super().__init__()
        self.rows = rows
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.rows(x)
        return self.head(torch.tanh(h.sum(dim=1) if h.dim() == 3 else h))


class TiedEmbedding(nn.Module):
    """A language model: the head is the table of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(TOKENS, 3)
        self.mix = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.mix(self.rows(x).sum(dim=1))), self.rows.weight)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(8, 4), nn.Linear(8, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, left: Tensor, *, right: Tensor) -> Tensor:
        return self.head(torch.tanh(self.left(left)) * torch.tanh(self.right(right)))


def of_two_inputs(module: nn.Module, batch: Batch, values: Values) -> Tensor:
    return F.cross_entropy(module(batch["left"], right=batch["right"]), batch["labels"])


@dataclass
class Output:
    """As a model of Hugging Face's returns it."""

    loss: Tensor
    logits: Tensor


class WithItsLoss(Around):
    def forward(self, x: Tensor, labels: Tensor) -> Output:  # type: ignore[override]
        logits = super().forward(x)
        return Output(F.cross_entropy(logits, labels), logits)


def of_the_output(module: nn.Module, batch: Batch, values: Values) -> tuple[Tensor, Tensor]:
    output = module(*batch)
    return output.loss, output.logits


def penalised(module: nn.Module, batch: Batch, values: Values) -> Tensor:
    """A penalty of one's own over all parameters."""
    squares = sum(p.square().sum() for p in module.parameters())
    return cross_entropy(module, batch, values) + 0.01 * squares


def closing_over(outer: nn.Module) -> Loss:
    """The loss forgets the module that it is given."""
    return lambda module, batch, values: cross_entropy(outer, batch, values)


def penalty_closing_over(outer: nn.Module) -> Loss:
    """It forgets it in the penalty alone."""

    def loss(module: nn.Module, batch: Batch, values: Values) -> Tensor:
        squares = sum(p.square().sum() for p in outer.parameters())
        return cross_entropy(module, batch, values) + 0.05 * squares

    return loss


class Auxiliary(Around):
    """Its forward call leaves a term of the loss on it."""

    extra: Tensor

    def inside(self, h: Tensor) -> Tensor:
        self.extra = h.square().mean()
        return self.middle(h)


def with_auxiliary(module: nn.Module, batch: Batch, values: Values) -> Tensor:
    value = cross_entropy(module, batch, values)
    assert isinstance(module.extra, Tensor)
    return value + 0.3 * module.extra


def plain() -> nn.Module:
    return Around(nn.GELU())


NETWORKS = (
    Network("a plain chain", lambda: nn.Sequential(nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3))),
    Network("tied weights", Tied),
    Network("a module used three times", SharedModule),
    Network("frozen parameters", lambda: frozen("squeeze")),
    Network("all frozen but the head", lambda: frozen("squeeze", "middle")),
    Network("unused parameters", Unused, "either", "other"),
    Network("parameters in lists", InLists),
    Network("a second reference to a parameter", Cast, "either", "gain|references"),
    Network("embedding", lambda: Embedded(nn.Embedding(TOKENS, 3)), batches=tokens),
    Network(
        "embedding with padding",
        lambda: Embedded(nn.Embedding(TOKENS, 3, padding_idx=0)),
        batches=tokens,
    ),
    Network(
        "embedding, scale_grad_by_freq",
        lambda: Embedded(nn.Embedding(TOKENS, 3, scale_grad_by_freq=True)),
        "either",
        batches=tokens,
    ),
    Network(
        "embedding, max_norm",
        lambda: Embedded(nn.Embedding(TOKENS, 3, max_norm=1.0)),
        "either",
        batches=tokens,
    ),
    Network(
        "embedding bag",
        lambda: Embedded(nn.EmbeddingBag(TOKENS, 3, mode="mean")),
        "either",
        batches=tokens,
    ),
    Network(
        "embedding tied to the head",
        TiedEmbedding,
        batches=tokens,
    ),
    Network("several inputs", TwoInputs, loss=lambda _: of_two_inputs, batches=halves),
    Network(
        "an output with its loss", lambda: WithItsLoss(nn.Tanh()), loss=lambda _: of_the_output
    ),
    Network("a penalty over module.parameters()", plain, loss=lambda _: penalised),
    Network("a loss of the outer module", plain, "either", "module", loss=closing_over),
    Network("a penalty of the outer module", plain, "either", "module", loss=penalty_closing_over),
    Network(
        "a term of the loss on self", lambda: Auxiliary(nn.Tanh()), loss=lambda _: with_auxiliary
    ),
)
