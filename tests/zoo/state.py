"""State beside the parameters: in buffers, in plain attributes, in Python."""

import torch
from torch import Tensor, nn
from zoo.network import Around, Network

STATE = "state|buffer|attribute"


class CountedInPython(Around):
    """A coefficient that anneals with the number of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def inside(self, h: Tensor) -> Tensor:
        self.calls += self.training
        return h * (1 + 1 / (1 + self.calls))


class CountedInABuffer(Around):
    """The same in a buffer: a training step has its own number."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def inside(self, h: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return h * (1 + 1 / (1 + self.calls))


class Averaged(Around):
    """Centred by a moving average of its inputs, in a buffer that is changed in place."""

    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(6))

    def inside(self, h: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.average.mul_(0.7).add_(0.3 * h.mean(dim=0))
        return torch.tanh(h - self.average)


class AveragedAnew(Averaged):
    """In a buffer that is assigned anew."""

    def inside(self, h: Tensor) -> Tensor:
        if self.training:
            self.average = 0.7 * self.average + 0.3 * h.mean(dim=0).detach()
        return torch.tanh(h - self.average)


class AveragedInAnAttribute(Around):
    """In a plain attribute, which no state dict has."""

    def __init__(self) -> None:
        super().__init__()
        self.average: Tensor | float = 0.0

    def inside(self, h: Tensor) -> Tensor:
        if self.training:
            self.average = 0.7 * self.average + 0.3 * h.mean(dim=0).detach()
        return torch.tanh(h - self.average)


class AveragedInput(Around):
    """Of the data alone: no weight has a part in it."""

    average: Tensor

    def __init__(self) -> None:
        super().__init__(nn.Tanh())
        self.register_buffer("average", torch.zeros(16))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.average.mul_(0.7).add_(0.3 * x.mean(dim=0))
        return super().forward(x - self.average)


class Reached(Averaged):
    """The average is kept, and nothing uses it."""

    def inside(self, h: Tensor) -> Tensor:
        super().inside(h)
        return h


class AveragedWeights(Around):
    """A moving average of its own weights, which evaluation uses."""

    average: Tensor
    middle: nn.Linear

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 6))
        self.register_buffer("average", self.middle.weight.detach().clone())

    def inside(self, h: Tensor) -> Tensor:
        if self.training:
            self.average.lerp_(self.middle.weight.detach(), 0.2)
            return torch.tanh(self.middle(h))
        return torch.tanh(nn.functional.linear(h, self.average, self.middle.bias))


class Codebook(Around):
    """Vector quantisation by a moving codebook, softly, so that it is smooth."""

    codes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(4, 6))

    def inside(self, h: Tensor) -> Tensor:
        codes = self.codes.clone()
        weights = (h @ codes.T).softmax(dim=1)
        quantised = weights @ codes
        if self.training:
            with torch.no_grad():
                self.codes += 0.1 * (weights.T @ h / len(h) - self.codes)
        return h + quantised


class Remembered(Around):
    """The last batch's activations: a memory bank."""

    def __init__(self) -> None:
        super().__init__()
        self.last: list[Tensor] = []

    def inside(self, h: Tensor) -> Tensor:
        bank = self.last[-1] if self.last else torch.zeros_like(h[:1])
        if self.training:
            self.last.append(h.detach().mean(dim=0, keepdim=True))
        return torch.tanh(h + bank)


class Warmed(Around):
    """Initialised by the data of the first call, as in weight norm's or ActNorm's papers."""

    ready: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(6))
        self.register_buffer("ready", torch.tensor(False))

    def inside(self, h: Tensor) -> Tensor:
        if not self.ready:
            with torch.no_grad():
                self.gain.copy_(1 / (h.std(dim=0) + 0.1))
                self.ready.fill_(True)
        return torch.tanh(self.gain * h)


class Cached(Around):
    """A product of weights that is computed once and kept."""

    middle: nn.Linear
    kept: Tensor | None

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 6))
        self.kept = None

    def inside(self, h: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = self.middle.weight.detach() @ self.middle.weight.detach()
        kept = self.kept
        return torch.tanh(self.middle(h) + h @ kept)


NETWORKS = (
    Network("a counter in Python", CountedInPython, "either", f"calls|{STATE}"),
    Network("a counter in a buffer", CountedInABuffer, "either", f"calls|{STATE}"),
    Network("moving average in a buffer", Averaged, "either", f"average|{STATE}"),
    Network("moving average, buffer reassigned", AveragedAnew, "either", f"average|{STATE}"),
    Network("moving average in an attribute", AveragedInAnAttribute, "either", f"average|{STATE}"),
    Network("moving average of the inputs", AveragedInput, "either", f"average|{STATE}"),
    Network("moving average that nothing uses", Reached, "either", f"average|{STATE}"),
    Network("moving average of the weights", AveragedWeights, "either", f"average|{STATE}"),
    Network("moving codebook", Codebook, "either", f"codes|{STATE}"),
    Network("memory bank", Remembered, "either", f"last|{STATE}"),
    Network("initialised by the first batch", Warmed, "either", f"gain|ready|{STATE}"),
    Network("a product kept from the first call", Cached, "either", f"kept|{STATE}"),
)
