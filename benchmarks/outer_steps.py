"""Outer steps for less work: what is learned for how much, and how hypergradients agree."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch

from hypergrad import OuterStep, best, learn_schedule
from hypergrad.config.schema import RunConfig
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.schedule import Schedule
from hypergrad.data import (
    Dataset,
    Images,
    Minibatches,
    in_batches,
    in_even_batches,
    train_validation_split,
)
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.result import validation_batch
from hypergrad.drivers.inner_optimizer import inner_optimizer
from hypergrad.drivers.learn.driver import differentiation
from hypergrad.training.differentiated_run import ForwardRun
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import ScheduledRun

__all__ = ["AGREEING", "VARIANTS", "Learned", "compare", "learn"]

Row = dict[str, int | float | str | None]
_BATCH = 1000  # images at a time in evaluation


# Ways to save work: outer steps with a horizon of one epoch; the first one always has.
VARIANTS: Mapping[str, int] = {"full": 1, "early": 4}

# What is set beside the exact hypergradients of a whole outer step. The first two are measures of
# how exact those are: in float64, and with the training images in another order.
AGREEING = ("float64", "other_order", "bfloat16")


class Learned(NamedTuple):
    """What a variant came to.

    Attributes:
        history: Its outer steps.
        rows: One an outer step, as in `learning.csv`, without variant and seed.
    """

    history: list[OuterStep]
    rows: list[Row]


def learn(config: RunConfig, model: FlatModel, data: Dataset, seed: int, short: int) -> Learned:
    """Learn a schedule, and train with the best one so far after every outer step.

    Args:
        config: Epochs, batches, outer steps and all other settings.
        model: The network with the initial weights of the seed.
        data: The images.
        seed: Of splits and batches.
        short: Outer steps with a horizon of one epoch, at least 1.

    Returns:
        The outer steps. Their `seconds` are processor time of learning alone, summed up as are
        `gradients` and `products`; `test_accuracy` is that of a training on the whole training set
        for all epochs with the schedule that is the best by validation so far.
    """
    options = differentiation(config)
    assert isinstance(options, ForwardOptions)
    history: list[OuterStep] = []
    rows: list[Row] = []
    tested: dict[Schedule, float] = {}
    seconds, began = 0.0, time.process_time()

    def note(step: OuterStep) -> None:
        nonlocal seconds, began
        seconds += time.process_time() - began
        history.append(step)
        chosen = best(history)
        if chosen.schedule not in tested:
            tested[chosen.schedule] = _retrain(config, model, data, seed, chosen.schedule)
        rows.append(
            {
                "outer_step": len(history) - 1,
                "seconds": seconds,
                "gradients": sum(step.gradients for step in history),
                "products": sum(step.products for step in history),
                "validation_accuracy": step.validation_accuracy,
                "best": history.index(chosen),
                "test_accuracy": tested[chosen.schedule],
            }
        )
        began = time.process_time()

    learn_schedule(
        model.module,
        data.train.images,
        data.train.labels,
        epochs=config.epochs,
        batch_size=config.method.batch_size,
        outer_steps=config.outer.steps,
        optimizer=inner_optimizer(config),
        validation=config.method.validation_fraction,
        first_horizons=(1,) * short,
        tolerance=config.outer.tolerance,
        options=options,
        seed=seed,
        on_step=note,
    )
    return Learned(history, rows)


def compare(
    config: RunConfig, model: FlatModel, train: Images, seed: int, number: int, exact: OuterStep
) -> Iterator[Row]:
    """Take an outer step again in several ways, and set their hypergradients beside its own.

    Args:
        config: As of `learn`.
        model: Likewise.
        train: The training images, before the split.
        seed: Of splits and batches.
        number: Which outer step, of full length.
        exact: What it came to.

    Yields:
        A row a way and value, as in `agreement.csv`, without the seed.
    """
    options = differentiation(config)
    assert isinstance(options, ForwardOptions)
    for name in AGREEING:
        low = "bfloat16" if name == "bfloat16" else None
        asked = replace(options, precision=low)
        precise = name == "float64"
        key = (seed, "other" if name == "other_order" else "ours", number)
        found = _take_again(
            config,
            model.to(torch.float64) if precise else model,
            model.theta().double() if precise else model.theta(),
            Images(train.images.double(), train.labels) if precise else train,
            key,
            exact.schedule,
            asked,
        )
        for (kind, index, value), own, other in zip(
            exact.schedule.columns(), exact.hypergradients, found, strict=True
        ):
            yield {
                "outer_step": number,
                "way": name,
                "kind": kind,
                "index": index,
                "value": value,
                "exact": own,
                "hypergradient": other,
            }


def _take_again(
    config: RunConfig,
    model: FlatModel,
    theta: torch.Tensor,
    data: Images,
    key: tuple[int, str, int],
    schedule: Schedule,
    options: ForwardOptions,
) -> tuple[float, ...]:
    """The hypergradients of an outer step with the split of its seed and number."""
    seed, _, number = key
    size, share = config.method.batch_size, config.method.validation_fraction
    train, held_out = train_validation_split(len(data), share, seed=seed, outer_step=number)
    minibatches = Minibatches(data.take(train), size, key)
    optimizer = inner_optimizer(config)
    problem = InnerProblem.over_epochs(model, theta, minibatches, config.epochs, optimizer)
    inner = ForwardRun(problem, schedule, options)
    while not inner.done:
        inner.advance()
    if not inner.is_finite():
        return (math.nan,) * len(schedule.flat)
    validation = in_even_batches(data.take(held_out), validation_batch(size, len(held_out)))
    return inner.hypergradients(list(validation)).values


def _retrain(
    config: RunConfig, model: FlatModel, data: Dataset, seed: int, schedule: Schedule
) -> float:
    """Test accuracy after a training on the whole training set, as the command line's."""
    minibatches = Minibatches(data.train, config.method.batch_size, (seed, "retrain", 0))
    given = model, model.theta(), minibatches, config.epochs, inner_optimizer(config)
    problem = InnerProblem.over_epochs(*given)
    inner = ScheduledRun(problem, schedule)
    while not inner.done:
        inner.advance()
    test = in_batches(data.test, _BATCH)
    return model.evaluate(inner.state.theta, inner.state.buffers, test)[1]
