"""The training loop that one would write by hand: a module, `torch.optim.SGD`, batches by index.

Nothing of the library is used but its random streams, so that both train on the same minibatches.
"""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hypergrad.core.seeding import generator
from hypergrad.data import Augmentation, Images

__all__ = ["Recipe", "accuracy", "train"]

PAD = 4
EVALUATION_BATCH = 1000


class Recipe(NamedTuple):
    """How to train.

    Attributes:
        epochs: Passes over the images.
        batch_size: Images in a minibatch; the incomplete one is dropped.
        key: Names the random stream.
        augment: Random crop and flip.
        learning_rate: Constant.
        momentum: Likewise.
        weight_decay: Likewise.
        clip: Elementwise limit on the gradient.
    """

    epochs: int
    batch_size: int
    key: tuple[int | str, ...]
    augment: bool
    learning_rate: float
    momentum: float
    weight_decay: float
    clip: float


def train(module: nn.Module, data: Images, recipe: Recipe) -> nn.Module:
    """Train a copy of a module.

    Args:
        module: On the device of the images.
        data: Training images.
        recipe: How.

    Returns:
        The trained copy.
    """
    net = copy.deepcopy(module).train()
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    device = data.labels.device
    for epoch in range(recipe.epochs):
        key = (*recipe.key, epoch)
        order = torch.randperm(len(data), generator=generator(*key, "shuffle")).to(device)
        if recipe.augment:
            draws = Augmentation(PAD).draw(len(data), generator(*key, "augment")).to(device)
        for index in order[: len(order) // recipe.batch_size * recipe.batch_size].split(
            recipe.batch_size
        ):
            x, y = data.images[index], data.labels[index]
            if recipe.augment:
                x = crop_and_flip(x, draws.top[index], draws.left[index], draws.flip[index])
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            nn.utils.clip_grad_value_(net.parameters(), recipe.clip)
            optimizer.step()
    return net


def crop_and_flip(images: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Return `(n, c, h, w)` images, each cut from where it was drawn, and flipped where drawn."""
    n, _, h, w = images.shape
    windows = F.pad(images, (PAD,) * 4).unfold(2, h, 1).unfold(3, w, 1)
    cut = windows[torch.arange(n, device=images.device), :, top, left]
    return torch.where(flip[:, None, None, None], cut.flip(3), cut)


@torch.no_grad()
def accuracy(net: nn.Module, data: Images) -> float:
    """Return the share of images that a network names rightly, with running statistics."""
    net.eval()
    batches = zip(
        data.images.split(EVALUATION_BATCH), data.labels.split(EVALUATION_BATCH), strict=True
    )
    return sum(int((net(x).argmax(1) == y).sum()) for x, y in batches) / len(data)
