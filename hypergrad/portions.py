"""Which images an inner run sees: pure functions of the configuration, a seed and a number."""

from torch import Tensor

from hypergrad.data import Augmentation, Dataset, Images, in_even_batches, train_validation_split
from hypergrad.hypergradient import validation_batch
from hypergrad.inner import Minibatches
from hypergrad.schema import RunConfig

__all__ = ["minibatches_of", "split", "validation_batches"]


def split(config: RunConfig, data: Dataset, seed: int, outer_step: int) -> tuple[Images, Images]:
    """Return the images that an outer step trains on, and those that it validates on.

    Args:
        config: Gives the validation share.
        data: The images.
        seed: Of the repeat.
        outer_step: From 0; every outer step has a split of its own.
    """
    train, validation = train_validation_split(
        len(data.train), config.method.validation, seed=seed, outer_step=outer_step
    )
    return data.train.take(train), data.train.take(validation)


def minibatches_of(
    config: RunConfig, train: Images, seed: int, name: str, outer_step: int
) -> Minibatches:
    """Return the minibatches of an inner run.

    Args:
        config: Gives their size, and whether images are augmented.
        train: What they are made of.
        seed: Of the repeat.
        name: Of the stream: inner runs with one name see the same minibatches.
        outer_step: Likewise.
    """
    augment = Augmentation() if config.data.augment else None
    return Minibatches(train, config.method.batch_size, (seed, name, outer_step), augment)


def validation_batches(config: RunConfig, validation: Images) -> list[tuple[Tensor, Tensor]]:
    """Return the batches that the hypergradient of a validation loss is the mean over."""
    size = validation_batch(config.method.batch_size, len(validation))
    return list(in_even_batches(validation, size))
