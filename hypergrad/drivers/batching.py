"""What a run is given: images, minibatches, a schedule set by hand, how the outer loop goes.

Pure functions of the configuration, a seed and a number.
"""

from torch import Tensor

from hypergrad.config.schema import RunConfig
from hypergrad.core.rules.sgd_schedules import preset_schedule
from hypergrad.core.schedule import Schedule
from hypergrad.data import (
    Augmentation,
    Dataset,
    Images,
    Minibatches,
    in_even_batches,
    train_validation_split,
)
from hypergrad.differentiation.result import validation_batch
from hypergrad.training.outer_loop import OuterOptions

__all__ = ["hand_set_schedule", "minibatches_of", "outer_options", "split", "validation_batches"]


def split(config: RunConfig, data: Dataset, seed: int, outer_step: int) -> tuple[Images, Images]:
    """Return the images that an outer step trains on, and those that it validates on.

    Args:
        config: Gives the validation share.
        data: The images.
        seed: Of the repeat.
        outer_step: From 0; every outer step has a split of its own.
    """
    train, validation = train_validation_split(
        len(data.train), config.method.validation_fraction, seed=seed, outer_step=outer_step
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


def hand_set_schedule(config: RunConfig, horizon: int) -> Schedule:
    """Return the schedule of the configured baseline over `horizon` inner steps."""
    hand = config.baseline
    return preset_schedule(
        hand.schedule,
        horizon,
        learning_rate=hand.learning_rate,
        momentum=hand.momentum,
        weight_decay=hand.weight_decay,
        milestones=hand.milestones,
        factor=hand.factor,
    )


def outer_options(config: RunConfig) -> OuterOptions:
    """Return how the configured outer loop moves, and when it ends."""
    outer = config.outer
    return OuterOptions(
        outer.steps,
        config.epochs,
        outer.first_horizons,
        outer.tolerance,
        outer.patience,
        config.allowance,
        config.trust.sign_agreement,
        outer.select,
        outer.trajectories,
        outer.descent,
    )
