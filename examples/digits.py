"""scikit-learn's handwritten digits: splits, batches, wrong labels, accuracy."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from hypergrad.data import TensorBatches

__all__ = ["Shuffled", "Split", "accuracy", "mislabelled", "splits"]

Split = tuple[Tensor, Tensor]  # images (n, 1, 8, 8) float32 in [-1, 1], labels (n,) int64


def splits(*sizes: int) -> list[Split]:
    """Return a split of each size, and one of all images that are left, in random order."""
    images, labels = map(torch.tensor, load_digits(return_X_y=True))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images = images[order].float().view(-1, 1, 8, 8) / 8 - 1
    parts = [*sizes, len(labels) - sum(sizes)]
    return list(zip(images.split(parts), labels[order].split(parts), strict=True))


def mislabelled(split: Split, groups: int) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Return a split in groups, of whose labels many are wrong: the next digit.

    Args:
        split: Of `n` images.
        groups: How many; each has a share of wrong labels of its own, drawn from 0 to 95 %.

    Returns:
        Images, labels and groups `(n,)`; and the shares of labels that came out wrong `(groups,)`.
    """
    images, labels = split
    stream, group = torch.Generator().manual_seed(0), torch.arange(len(labels)) % groups
    share = 0.95 * torch.rand(groups, generator=stream)
    wrong = torch.rand(len(labels), generator=stream) < share[group]
    counts = torch.bincount(group)
    return (images, (labels + wrong) % 10, group), torch.bincount(
        group[wrong], None, groups
    ) / counts


class Shuffled(TensorBatches):
    """Batches in an order of their own for each seed; with random numbers for augmentation.

    Args:
        data: Tensors of one length.
        batch_size: Of them in a batch.
        seed: Of the order, and of what is drawn; `learn` gives the outer step.
        draws: Whether `(n, 2)` normal numbers for an image each, and some for all pixels, follow.
    """

    def __init__(
        self, data: tuple[Tensor, ...], batch_size: int, seed: int, draws: bool = False
    ) -> None:
        super().__init__(data, batch_size, (seed, "order"))
        self.seed, self.draws = seed, draws

    def at(self, step: int) -> tuple[Tensor, ...]:
        """Return the batch of a 0-based step, the same one whenever it is asked for."""
        batch = super().at(step)
        if not self.draws:
            return batch
        stream = torch.Generator().manual_seed(100_000 * self.seed + step)
        of_image = torch.randn(len(batch[0]), 2, generator=stream)
        return *batch, of_image, torch.randn(batch[0].shape, generator=stream)


@torch.no_grad()
def accuracy(net: nn.Module, split: Split) -> float:
    """Return the accuracy on a split in %; the network is left in evaluation mode."""
    images, labels = split
    return 100 * (net.eval()(images).argmax(1) == labels).double().mean().item()
