"""A run on several ranks: rank 0 runs it, the others do what it does.

Rank 0 alone reads the command line, looks at the clock, hears signals, prints and writes. Whatever
its inner runs with tangents do, it first tells the others (the *workers*), who do the same with
their share of the rows. Everything else (training without tangents, evaluation) is rank 0's alone:
the workers wait.
"""

import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from torch import Tensor

from hypergrad.config.schema import RunConfig
from hypergrad.core.functional_model import Batch
from hypergrad.core.schedule import Schedule
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.result import Hypergradients
from hypergrad.drivers.batching import minibatches_of, outer_options, split, validation_batches
from hypergrad.drivers.context import RunContext, computing, make_model, prepare
from hypergrad.drivers.inner_optimizer import inner_optimizer
from hypergrad.parallel.ranks import Ranks, join_ranks
from hypergrad.runs.errors import RunFailed
from hypergrad.training.differentiated_run import ForwardRun
from hypergrad.training.graphed_step import Replay, replay_for
from hypergrad.training.inner_problem import InnerProblem

__all__ = ["LedRun", "Task", "follow", "shutdown"]


class Command(IntEnum):
    """What rank 0 tells the workers to do."""

    END = 0
    BEGIN = 1
    STEP = 2
    COUNT = 3
    PROJECT = 4
    SNAPSHOT = 5
    RESTORE = 6


class Task(NamedTuple):
    """All that an inner run with tangents follows from.

    Attributes:
        config: The run's configuration.
        seed: Of the repeat.
        outer_step: From 0.
        schedule: The values.
        options: Clipping, truncation, strategy.
    """

    config: RunConfig
    seed: int
    outer_step: int
    schedule: Schedule
    options: ForwardOptions


class LedRun(ForwardRun):
    """A forward run at rank 0, which has the workers do what it does.

    Args:
        task: What it is.
        problem: What is trained.
        replay: Takes its steps, or None.
        ranks: The ranks, of which this is the first.
    """

    def __init__(
        self,
        task: Task,
        problem: InnerProblem,
        replay: Replay | None,
        ranks: Ranks,
    ) -> None:
        ranks.broadcast_number(Command.BEGIN)
        ranks.broadcast_object(task)
        super().__init__(problem, task.schedule, task.options, replay, ranks)

    def advance(self) -> None:
        """Take one inner step."""
        self._ranks.broadcast_number(Command.STEP)
        super().advance()

    def cost(self) -> tuple[int, int]:
        """Return how many gradient evaluations and Hessian products there were so far."""
        self._ranks.broadcast_number(Command.COUNT)
        return super().cost()

    def hypergradients(
        self, validation: Sequence[Batch], tick: Callable[[int], None] = lambda steps: None
    ) -> Hypergradients:
        """Return the hypergradients of the validation loss at the weights reached."""
        self._ranks.broadcast_number(Command.PROJECT)
        return super().hypergradients(validation, tick)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that `restore` needs: tensors with the rows of all, and values."""
        self._ranks.broadcast_number(Command.SNAPSHOT)
        return super().snapshot()

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot, which need not be of the same number of ranks."""
        self._ranks.broadcast_number(Command.RESTORE)
        self._ranks.broadcast_object((dict(tensors), dict(scalars)))
        super().restore(tensors, scalars)


def follow() -> None:
    """Do what rank 0 says until it says that this was all; a signal is for rank 0 to answer.

    Raises:
        RunFailed: If rank 0 is gone.
        ValueError: For data or a device that this machine lacks.
    """
    ranks = join_ranks()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    worker = _Worker(ranks)
    while (command := _hear(ranks)) != Command.END:
        worker.obey(command)
    ranks.leave()


def shutdown() -> None:
    """At rank 0: tell the workers, if there still are any, that this was all."""
    with contextlib.suppress(RuntimeError):
        ranks = join_ranks()
        ranks.broadcast_number(Command.END)
        ranks.leave()


def _hear(ranks: Ranks) -> Command:
    try:
        return Command(ranks.broadcast_number(Command.END))
    except RuntimeError as error:
        raise RunFailed(f"rank {ranks.rank}: rank 0 is gone") from error


class _Worker:
    """A rank that is not the first, and what it has at hand."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._process = contextlib.ExitStack()  # how this process computes
        self._context: RunContext | None = None
        self._seed: int | None = None
        self._inner: ForwardRun | None = None
        self._validation: list[Batch] = []

    def obey(self, command: Command) -> None:
        """Do what rank 0 does."""
        if command == Command.BEGIN:
            self._begin(self._ranks.broadcast_object())
            return
        assert self._inner is not None, "rank 0 begins before it goes on"
        match command:
            case Command.STEP:
                self._inner.advance()
            case Command.COUNT:
                self._inner.cost()
            case Command.PROJECT:
                self._inner.hypergradients(self._validation)
            case Command.SNAPSHOT:
                self._inner.snapshot()
            case Command.RESTORE:
                self._inner.restore(*self._ranks.broadcast_object())

    def _begin(self, task: Task) -> None:
        config, seed, outer_step = task.config, task.seed, task.outer_step
        if self._context is None or self._context.config != config:
            self._process.close()
            self._context, self._seed = prepare(config), None
            self._process.enter_context(computing(config))
        data = self._context.data
        if self._seed != seed:
            self._seed, self._model = seed, make_model(config, data, seed)
            # Rank 0 has said already what cannot be recorded.
            self._replay = replay_for(
                self._model, self._context.device, config.replay, lambda text: None
            )
        train, held_out = split(config, data, seed, outer_step)
        minibatches = minibatches_of(config, train, seed, "ours", outer_step)
        problem = InnerProblem.over_epochs(
            self._model,
            self._model.theta(),
            minibatches,
            outer_options(config).horizon(outer_step),
            inner_optimizer(config),
        )
        self._inner = ForwardRun(problem, task.schedule, task.options, self._replay, self._ranks)
        self._validation = validation_batches(config, held_out)
