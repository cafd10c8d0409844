"""Hypervariance: how much a hypergradient varies when its inner run is perturbed (Figure 2).

One inner run at a constant learning rate gives the hypergradient of the learning rate three ways:

- `greedy`: of every step, one step ahead, `-g_val(theta_t) . v_t` on a validation minibatch;
- `unshared`: of every step, through the whole rest of the run (reverse mode);
- `shared`: of every window of steps, the mean of the unshared ones in it.

It is repeated with something perturbed: the initial `weights` or the `learning_rate` values (one a
window), each entry by plus or minus `size` of itself; the sampling of the `train` or `validation`
minibatches; or `all` of these. What a repeat draws depends on its number alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.config.schema import RunConfig
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.schedule import Schedule
from hypergrad.core.seeding import generator
from hypergrad.data import Augmentation, Dataset, Minibatches, train_validation_split
from hypergrad.differentiation.per_step import gather
from hypergrad.differentiation.result import validation_gradient
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.drivers.inner_optimizer import inner_optimizer
from hypergrad.training.differentiated_run import ReverseRun
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import steps

__all__ = ["METHODS", "Measurement", "Task", "measure", "tasks"]

METHODS = ("greedy", "unshared", "shared")
UNPERTURBED = -1


class Task(NamedTuple):
    """One repeat under one perturbation; repeats count from 0."""

    perturbation: str
    repeat: int


class Measurement(NamedTuple):
    """Hypergradients of the learning rate from one inner run.

    Attributes:
        greedy: `T` values, one a step.
        unshared: `T` values, one a step.
        shared: One a window.
        train_loss: Of the last minibatch: how far the run came.
    """

    greedy: tuple[float, ...]
    unshared: tuple[float, ...]
    shared: tuple[float, ...]
    train_loss: float


def tasks(config: RunConfig) -> list[Task]:
    """Return all repeats of a study, in the order of its files."""
    names = config.hypervariance.perturbations
    return [Task(name, repeat) for name in names for repeat in range(config.repeats)]


def measure(
    config: RunConfig,
    data: Dataset,
    model: FlatModel,
    task: Task,
    tick: Callable[[], None] = lambda: None,
) -> Measurement:
    """Go through one inner run, there and back.

    Args:
        config: The study's configuration.
        data: The images.
        model: The network; its own weights are the unperturbed ones.
        task: What to perturb, and which repeat.
        tick: Is called after every step of either direction.

    Returns:
        What it found.
    """
    study = config.hypervariance
    theta, schedule = _start(config, model.theta(), task)
    train, validation = _minibatches(config, data, task)
    problem = InnerProblem(model, theta, train, study.steps, inner_optimizer(config))
    options = ReverseOptions(
        memory_gb=config.reverse.memory_gb,
        keep_graphs=config.reverse.keep_graphs,
        self_test=config.selftest == "on",
    )
    inner = ReverseRun(problem, schedule, options)
    greedy: list[Tensor] = []
    loss = 0.0
    for _ in steps(inner, rows_per_epoch=0):  # diverged or not, every step has a value
        (loss,) = inner.take_losses()
        batches = _validation(config, validation, inner.step - 1)
        g = validation_gradient(model, inner.state.theta, batches, inner.state.buffers)
        greedy.append(-(g @ inner.state.slots[0]))
        tick()
    found = inner.per_step(_validation(config, validation, study.steps), lambda _: tick())
    shared = gather(found, schedule, inner.state).values[: study.windows]
    unshared = found.mean[:, 0].tolist()
    return Measurement(tuple(torch.stack(greedy).tolist()), tuple(unshared), shared, loss)


def _start(config: RunConfig, theta: Tensor, task: Task) -> tuple[Tensor, Schedule]:
    """Initial weights and schedule of a repeat."""
    study = config.hypervariance
    rates = torch.full((study.windows,), study.learning_rate, dtype=torch.float64)
    if task.perturbation in ("weights", "all"):
        theta = theta * (1 + study.size * _signs(config, "weights", task, theta))
    if task.perturbation in ("learning_rate", "all"):
        rates = rates * (1 + study.size * _signs(config, "learning_rate", task, rates))
    return theta, sgd_schedule(tuple(rates.tolist()), (study.momentum,), (study.weight_decay,))


def _minibatches(config: RunConfig, data: Dataset, task: Task) -> tuple[Minibatches, Minibatches]:
    """The streams of training and of validation minibatches of a repeat, from a fixed split."""
    method, seed = config.method, config.seed
    picks = train_validation_split(
        len(data.train), method.validation_fraction, seed=seed, outer_step=0
    )
    train, validation = (data.train.take(side) for side in picks)
    augment = Augmentation() if config.data.augment else None

    def number(name: str) -> int:
        return task.repeat if task.perturbation in (name, "all") else UNPERTURBED

    size = min(method.batch_size, len(validation))
    return (
        Minibatches(train, method.batch_size, (seed, "study-train", number("train")), augment),
        Minibatches(validation, size, (seed, "study-validation", number("validation"))),
    )


def _signs(config: RunConfig, name: str, task: Task, like: Tensor) -> Tensor:
    """Random signs, as many as `like` has entries."""
    stream = generator(config.seed, "study", name, task.repeat)
    return (2 * torch.randint(2, like.shape, generator=stream) - 1).to(like)


def _validation(config: RunConfig, stream: Minibatches, moment: int) -> list[tuple[Tensor, Tensor]]:
    """The minibatches behind the validation gradient after step `moment`, or at the end."""
    count = config.hypervariance.validation_batches
    return [stream.at(moment * count + number) for number in range(count)]
