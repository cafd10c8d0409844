"""scikit-learn's handwritten digits: splits, random numbers beside images, accuracy on a split."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from hypergrad.data import TensorBatches

__all__ = ["Split", "WithDraws", "accuracy", "splits"]

Split = tuple[Tensor, Tensor]  # images (n, 1, 8, 8) float32 in [-1, 1], labels (n,) int64


def splits(*sizes: int) -> list[Split]:
    """Return a split of each size, and one of all images that are left, in random order."""
    images, labels = map(torch.tensor, load_digits(return_X_y=True))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images = images[order].float().view(-1, 1, 8, 8) / 8 - 1
    parts = [*sizes, len(labels) - sum(sizes)]
    return list(zip(images.split(parts), labels[order].split(parts), strict=True))


class WithDraws(TensorBatches):
    """Shuffled batches of images and labels, with normal numbers of which augmentation is made.

    Args:
        split: Of the images.
        batch_size: Images in a batch.
        seed: Of their order and of what is drawn.
    """

    def __init__(self, split: Split, batch_size: int, seed: int) -> None:
        super().__init__(split, batch_size, (seed, "order"))
        self.seed = seed

    def at(self, step: int) -> tuple[Tensor, ...]:
        """Return the same whenever a step is asked for, as any batches of `learn` must.

        Args:
            step: 0-based.

        Returns:
            Images, labels, `(n, 2)` draws for an image each, and some for its pixels.
        """
        images, labels = super().at(step)
        stream = torch.Generator().manual_seed(100_000 * self.seed + step)
        of_image = torch.randn(len(labels), 2, generator=stream)
        return images, labels, of_image, torch.randn(images.shape, generator=stream)


@torch.no_grad()
def accuracy(net: nn.Module, split: Split) -> float:
    """Return the accuracy on a split in %; the network is left in evaluation mode."""
    images, labels = split
    return 100 * (net.eval()(images).argmax(1) == labels).double().mean().item()
