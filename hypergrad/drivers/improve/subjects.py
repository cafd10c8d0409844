"""What a key stands for: weights, split, order, and what is judged on."""

from hypergrad.config.schema import RunConfig
from hypergrad.core.move_space import MoveSpace
from hypergrad.core.seeding import seed_of
from hypergrad.data import (
    EVALUATION_BATCH,
    Augmentation,
    Dataset,
    Minibatches,
    in_batches,
    in_even_batches,
    train_validation_split,
)
from hypergrad.differentiation.result import validation_batch
from hypergrad.drivers.context import make_model
from hypergrad.training.improvement.trainer import Subject
from hypergrad.training.improvement.trainings import Key
from hypergrad.training.inner_problem import InnerProblem

__all__ = ["subject_of"]


def subject_of(key: Key, seed: int, config: RunConfig, data: Dataset, space: MoveSpace) -> Subject:
    """Return what a key of the improvement of a seed stands for.

    Args:
        key: The judgement's train on all training images and are tested; others hold some out.
        seed: Of the improvement.
        config: The run's configuration.
        data: The images.
        space: Its optimiser trains.
    """
    own = seed_of(seed, "improve", *key)
    model = make_model(config, data, own)
    training, judging = data.train, data.test
    if key.stage != "judge":
        fraction = config.improve.validation_fraction
        kept, held_out = train_validation_split(len(training), fraction, seed=own, outer_step=0)
        training, judging = data.train.take(kept), data.train.take(held_out)
    augment = Augmentation() if config.data.augment else None
    size = config.method.batch_size
    minibatches = Minibatches(training, size, (own, "improve"), augment)
    problem = InnerProblem.over_epochs(
        model, model.theta(), minibatches, config.epochs, space.optimizer
    )
    back = list(in_even_batches(judging, validation_batch(size, len(judging))))
    judged = list(in_batches(judging, EVALUATION_BATCH))
    return Subject(problem, judged, back, own, judging.chance)
