"""A text that every Python has, its own help, as numbers: in splits, and in random excerpts."""

from pydoc_data.topics import topics

import torch
from comparison import QUICK
from torch import Tensor

__all__ = ["CONTEXT", "COUNT", "STEPS", "Excerpts", "held_out", "test"]

CONTEXT, BATCH, SIZE = 32, 16, 500 * 33
STEPS = 10 if QUICK else 120  # of a training, which is one epoch
text = "".join(topics[name] for name in sorted(topics))
codes = {letter: code for code, letter in enumerate(sorted(set(text)))}
COUNT = len(codes)
numbers = torch.tensor([codes[letter] for letter in text])
train, *others = numbers.split([len(text) - 2 * SIZE, SIZE, SIZE])
held_out, test = (other.view(-1, CONTEXT + 1) for other in others)  # (500, 33)


class Excerpts:
    """The batch of each step, from random places of the text: all that `learn` asks for.

    Args:
        seed: Of the places.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.steps_per_epoch = seed, STEPS

    def at(self, step: int) -> Tensor:
        """Return `(16, 33)` letters of a 0-based step, the same ones whenever it is asked for."""
        stream = torch.Generator().manual_seed(1000 * self.seed + step)
        places = torch.randint(len(train) - CONTEXT, (BATCH, 1), generator=stream)
        return train[places + torch.arange(CONTEXT + 1)]
