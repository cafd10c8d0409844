"""Small real problems in float64: networks on scikit-learn's handwritten digits."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.seeding import generator
from hypergrad.models import build

Batch = tuple[Tensor, Tensor]


class Problem(NamedTuple):
    model: FlatModel
    theta: Tensor
    images: Tensor
    labels: Tensor
    batch_size: int

    def batch_at(self, step: int) -> Batch:
        """Minibatch of the training part (all but the last 300 digits)."""
        picks = torch.randint(
            len(self.labels) - 300, (self.batch_size,), generator=generator("b", step)
        )
        return self.images[picks], self.labels[picks]

    @property
    def validation(self) -> list[Batch]:
        """Two batches of different size, so that the mean over examples matters."""
        return [
            (self.images[-300:-100], self.labels[-300:-100]),
            (self.images[-100:], self.labels[-100:]),
        ]


def digits_problem(
    name: str,
    batch_size: int = 16,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    **options: int,
) -> Problem:
    """A network on digits: 28x28 for LeNet, 8x8 for the others."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=dtype)[:, None] / 8 - 1
    if name == "lenet":
        images = F.interpolate(images, size=(28, 28), mode="bilinear", antialias=True)
    shape = (1, images.shape[2], images.shape[3])
    module = build(name, shape, 10, seed=seed, options=dict(options)).to(dtype)
    model = FlatModel(module)
    return Problem(model, model.theta(), images, torch.tensor(digits.target), batch_size)
