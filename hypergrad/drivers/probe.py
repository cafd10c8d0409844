"""How long a run is going to take on this machine, from a few steps of every kind."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from hypergrad.config.schema import RunConfig
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.training_step import InnerState, train_step
from hypergrad.data import EVALUATION_BATCH, Dataset, in_batches
from hypergrad.differentiation.checkpointing import CheckpointPlan, checkpoint_plan, state_bytes
from hypergrad.differentiation.mode import StepSeconds, median_seconds, step_seconds
from hypergrad.drivers.batching import minibatches_of, outer_options
from hypergrad.drivers.cost import PlannedRun, plan
from hypergrad.drivers.inner_optimizer import inner_optimizer

__all__ = ["Probe", "horizon_of", "predicted_seconds", "probe", "states", "training_step"]


class Probe(NamedTuple):
    """Seconds, each a median.

    Attributes:
        steps: Of an inner step.
        image: Of an image that is evaluated.
    """

    steps: StepSeconds
    image: float


def probe(config: RunConfig, data: Dataset, model: FlatModel) -> Probe:
    """Time steps of every kind; a few seconds.

    Args:
        config: The run's configuration.
        data: The images.
        model: The network.
    """
    theta, horizon = model.theta(), horizon_of(config, len(data.train))
    optimizer = inner_optimizer(config)
    schedule = optimizer.start()
    bound = optimizer.bind(model, schedule)
    size = config.method.batch_size
    batch = data.train.images[:size], data.train.labels[:size]
    minibatches = minibatches_of(config, data.train, config.seed, "probe", 0)
    fetch = median_seconds(lambda: minibatches.at(0))
    found = step_seconds(
        model,
        theta,
        batch,
        bound,
        schedule,
        horizon,
        truncation=config.method.truncation,
        strategy=config.hvp_strategy,
        chunks=config.reverse.validation_chunks,
    )
    found = StepSeconds(*(seconds + fetch for seconds in found))
    seen = data.test.take(torch.arange(min(len(data.test), EVALUATION_BATCH)))
    batches, buffers = list(in_batches(seen, EVALUATION_BATCH)), model.buffers()
    evaluation = median_seconds(lambda: model.evaluate(theta, buffers, batches))
    return Probe(found, evaluation / len(seen))


def horizon_of(config: RunConfig, n_train: int) -> int:
    """Return the inner steps of an outer step.

    Args:
        config: The run's configuration.
        n_train: Training images, before the validation split.
    """
    kept = n_train - max(1, round(n_train * config.method.validation_fraction))
    return outer_options(config).epochs * (kept // config.method.batch_size)


def states(config: RunConfig, n_train: int, model: FlatModel, memory_gb: float) -> CheckpointPlan:
    """Return what states reverse mode keeps, and how often it takes steps again.

    Args:
        config: The run's configuration.
        n_train: Training images, before the validation split.
        model: The network.
        memory_gb: For the states, in units of 1e9 bytes.

    Raises:
        ValueError: If that is too little.
    """
    slots = len(inner_optimizer(config).rule.slots)
    size = state_bytes(InnerState.start(model.theta(), slots, model.buffers()))
    return checkpoint_plan(max(horizon_of(config, n_train), 1), size, memory_gb)


def training_step(config: RunConfig, data: Dataset, model: FlatModel) -> Callable[[], object]:
    """Return what takes one inner step at the starting values, always the same.

    Args:
        config: The run's configuration.
        data: The images.
        model: The network.
    """
    optimizer = inner_optimizer(config)
    schedule, theta = optimizer.start(), model.theta()
    bound = optimizer.bind(model, schedule)
    values = bound.step_values(bound.given(schedule, 0, 1000), theta)
    size = config.method.batch_size
    batch = data.train.images[:size], data.train.labels[:size]
    state = InnerState.start(theta, len(bound.rule.slots), model.buffers())
    return lambda: train_step(model, state.copied(), batch, bound, values, 0)


def predicted_seconds(
    config: RunConfig, data: Dataset, parameters: int, found: Probe, step: float
) -> float:
    """Return how long all repeats of a run take.

    Args:
        config: The run's configuration.
        data: The images.
        parameters: `D`.
        found: What steps take.
        step: Seconds of an inner step in the mode that it is for.
    """
    layout = plan(config, len(data.train), parameters)
    seconds = sum(_inner_run(config, data, run, found, step) for run in layout.runs)
    return seconds * len(config.seeds)


def _inner_run(
    config: RunConfig, data: Dataset, run: PlannedRun, found: Probe, step: float
) -> float:
    final, train = run.method not in ("ours", "hd"), found.steps.train
    if run.method == "ours":
        still = run.outer_step == 0 and not inner_optimizer(config).moves_at_start
        each = train if still else step  # without a learning rate there is nothing to differentiate
    else:
        each = train * run.gradients
    steps_per_epoch = len(data.train) / config.method.batch_size
    looks = run.steps / steps_per_epoch * config.rows_per_epoch
    images = 0.0 if final else config.method.validation_fraction * len(data.train)
    if config.test_curves:
        images += len(data.test)
    seconds = run.steps * each + looks * images * found.image
    return run.trajectories * seconds + final * len(data.test) * found.image
