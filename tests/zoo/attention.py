"""Attention, in each form."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo.network import Network, OnSequences


class ByHand(OnSequences):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, 4) for _ in range(3))

    def inside(self, h: Tensor) -> Tensor:
        scores = self.query(h) @ self.key(h).transpose(1, 2) / 2
        return scores.softmax(dim=-1) @ self.value(h)


class ScaledDotProduct(ByHand):
    """One of PyTorch's kernels, which it chooses."""

    def __init__(self, causal: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.causal, self.dropout = causal, dropout

    def inside(self, h: Tensor) -> Tensor:
        q, k, v = (f(h).unsqueeze(1) for f in (self.query, self.key, self.value))
        p = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=self.causal).squeeze(
            1
        )


class MultiHead(OnSequences):
    def __init__(self, dropout: float = 0.0, weights: bool = True) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, dropout=dropout, batch_first=True)
        self.weights = weights

    def inside(self, h: Tensor) -> Tensor:
        return h + self.attention(h, h, h, need_weights=self.weights)[0]


def encoder(dropout: float = 0.0, norm_first: bool = False) -> nn.Module:
    return OnSequences(
        nn.TransformerEncoderLayer(
            4, 2, 8, dropout, activation="gelu", batch_first=True, norm_first=norm_first
        )
    )


class Rotary(ByHand):
    """Positions by rotation, its tables in buffers that no state dict has."""

    cos: Tensor
    sin: Tensor

    def __init__(self) -> None:
        super().__init__()
        angles = torch.arange(4.0)[:, None] / torch.tensor([1.0, 10.0])
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def turned(self, h: Tensor) -> Tensor:
        a, b = h.chunk(2, dim=-1)
        return torch.cat([a * self.cos - b * self.sin, a * self.sin + b * self.cos], dim=-1)

    def inside(self, h: Tensor) -> Tensor:
        scores = self.turned(self.query(h)) @ self.turned(self.key(h)).transpose(1, 2) / 2
        scores = scores.masked_fill(torch.ones(4, 4).triu(1).bool(), -torch.inf)
        return scores.softmax(dim=-1) @ self.value(h)


NETWORKS = (
    Network("attention by hand", ByHand),
    Network("attention, rotary and causal", Rotary),
    Network("scaled_dot_product_attention", ScaledDotProduct),
    Network("scaled_dot_product_attention, causal", lambda: ScaledDotProduct(causal=True)),
    Network(
        "scaled_dot_product_attention with dropout",
        lambda: ScaledDotProduct(dropout=0.3),
        "either",
        "dropout|draw",
    ),
    Network("MultiheadAttention", MultiHead),
    Network("MultiheadAttention without weights", lambda: MultiHead(weights=False)),
    Network("MultiheadAttention with dropout", lambda: MultiHead(0.3), "either", "dropout|draw"),
    Network("TransformerEncoderLayer", encoder),
    Network("TransformerEncoderLayer, norm first", lambda: encoder(norm_first=True)),
    Network("TransformerEncoderLayer with dropout", lambda: encoder(0.2), "either", "dropout|draw"),
)
