"""Recurrent networks."""

import torch
from torch import Tensor, nn
from zoo.network import Network, OnSequences


class Recurrent(OnSequences):
    def __init__(self, layer: nn.Module, width: int = 4) -> None:
        super().__init__(width=width)
        self.rows = layer

    def inside(self, h: Tensor) -> Tensor:
        return self.rows(h)[0]


class Cell(OnSequences):
    """Unrolled by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 4)

    def inside(self, h: Tensor) -> Tensor:
        hidden, kept = torch.zeros_like(h[:, 0]), []
        for x in h.unbind(dim=1):
            hidden = self.cell(x, hidden)
            kept.append(hidden)
        return torch.stack(kept, dim=1)


class Packed(Recurrent):
    """Sequences of different length."""

    def inside(self, h: Tensor) -> Tensor:
        lengths = torch.arange(len(h)) % 4 + 1
        packed = nn.utils.rnn.pack_padded_sequence(
            h, lengths, batch_first=True, enforce_sorted=False
        )
        return nn.utils.rnn.pad_packed_sequence(self.rows(packed)[0], batch_first=True)[0]


NETWORKS = (
    Network("RNN", lambda: Recurrent(nn.RNN(4, 4, batch_first=True))),
    Network("GRU", lambda: Recurrent(nn.GRU(4, 4, batch_first=True))),
    Network("LSTM", lambda: Recurrent(nn.LSTM(4, 4, batch_first=True))),
    Network(
        "LSTM, both ways",
        lambda: Recurrent(nn.LSTM(4, 3, batch_first=True, bidirectional=True), 6),
    ),
    Network("LSTM of packed sequences", lambda: Packed(nn.LSTM(4, 4, batch_first=True)), "either"),
    Network(
        "LSTM with dropout",
        lambda: Recurrent(nn.LSTM(4, 3, 2, batch_first=True, dropout=0.3), 3),
        "either",
        "dropout|draw",
    ),
    Network("GRU cell in a loop", Cell),
)
