"""One trial: train with a schedule from one seed, and see what it comes to.

Everything that a search compares goes through here, and so through the inner run that retrains a
learned schedule: what differs between two rows of a table is the schedule alone.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.config.schema import RunConfig
from hypergrad.core.budget import Spent
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.outer_optimizer import rank
from hypergrad.core.schedule import KINDS, Schedule
from hypergrad.core.seeding import seed_of
from hypergrad.data import (
    EVALUATION_BATCH,
    Augmentation,
    Dataset,
    Images,
    Minibatches,
    in_batches,
    train_validation_split,
)
from hypergrad.drivers.context import make_model
from hypergrad.drivers.search.candidates import Candidate
from hypergrad.training.ensemble import EnsembleRun
from hypergrad.training.graphed_step import Replay, replay_for
from hypergrad.training.hypergradient_descent import HypergradientDescentRun
from hypergrad.training.inner_run import InnerRun, ScheduledRun

__all__ = ["Outcome", "Stage", "Trainer", "Trial"]

SEARCH_SPLIT = -2  # the outer loop splits with 0, 1, ..., hypergradient descent beside it with -1

Tick = Callable[[], None]


class Trial(NamedTuple):
    """One training of a search.

    Attributes:
        candidate: What with.
        seed: Of initial weights, split and minibatches.
        final: On the full training set, to be tested; otherwise on a split, to be validated.
        schedule: What hypergradient descent came to, for its final training.
    """

    candidate: Candidate
    seed: int
    final: bool = False
    schedule: Schedule | None = None

    @property
    def hd(self) -> bool:
        """Whether it goes without a schedule of its own."""
        return self.candidate.schedule == "hd" and self.schedule is None


class Outcome(NamedTuple):
    """What a trial came to. Accuracies are in [0, 1]; a diverged trial scores chance.

    Attributes:
        validation_accuracy: None for a final training.
        validation_loss: Likewise; may be infinite or NaN.
        test_accuracy: None where the test set was not looked at.
        train_loss: Mean over the minibatches of the last epoch.
        diverged: Its weights did not stay finite, or it is no better than always naming the
            commonest class.
        diverged_step: After how many steps the weights were still finite, if they did not stay so.
        steps: Inner steps taken: an epoch in which the weights are lost is the last one.
        spent: What they cost.
        ensemble: How many trials were trained together.
        values: What hypergradient descent used in every step, by kind; None if it diverged.
    """

    validation_accuracy: float | None
    validation_loss: float | None
    test_accuracy: float | None
    train_loss: float
    diverged: bool
    diverged_step: int | None
    steps: int
    spent: Spent
    ensemble: int
    values: dict[str, list[float]] | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """What orders trials by validation; the greatest is the best."""
        assert self.validation_accuracy is not None
        assert self.validation_loss is not None
        return rank(self.validation_accuracy, self.validation_loss)


class Stage(NamedTuple):
    """What trials of one seed and kind start from: they differ in nothing but the schedule."""

    seed: int
    model: FlatModel
    theta: Tensor
    minibatches: Minibatches
    validation: Images | None
    replay: Replay | None


class Trainer:
    """Trains trials; keeps the network and the images of the last one for the next.

    Args:
        config: The run's configuration.
        data: The images, on the compute device and in the run's precision.
    """

    def __init__(self, config: RunConfig, data: Dataset) -> None:
        self._config = config
        self._data = data
        self._stage: tuple[tuple[int, int, bool], Stage] | None = None

    def train(self, trials: Sequence[Trial], tick: Tick = lambda: None) -> list[Outcome]:
        """Train one trial, or several of one seed and kind together.

        Args:
            trials: Several are trained as an ensemble; they differ in their schedules alone.
            tick: Is called after every inner step; what it raises ends the training.

        Returns:
            One outcome a trial.
        """
        began = time.monotonic()
        stage = self.stage(trials[0])
        # For networks that draw, as dropout does: a trial is the same whatever was trained before.
        torch.manual_seed(stage.seed)
        inner = self._inner(stage, trials)
        losses, survived = _go(inner, tick)
        outcomes = [
            self._outcome(stage, trial, inner, member, loss, steps)
            for member, (trial, loss, steps) in enumerate(
                zip(trials, losses, survived, strict=True)
            )
        ]
        seconds = (time.monotonic() - began) / len(trials)
        return [
            outcome._replace(spent=outcome.spent._replace(seconds=seconds)) for outcome in outcomes
        ]

    def stage(self, trial: Trial) -> Stage:
        """Return what a trial starts from."""
        restart = 0 if trial.final else trial.candidate.restart
        key = trial.seed, restart, trial.final
        if self._stage is None or self._stage[0] != key:
            self._stage = key, _make_stage(self._config, self._data, *key)
        return self._stage[1]

    def _inner(self, stage: Stage, trials: Sequence[Trial]) -> InnerRun:
        config, (first, *others) = self._config, trials
        start = stage.model, stage.theta, stage.minibatches, config.epochs
        clip = config.method.clip_gradient
        if first.hd:
            assert not others
            assert stage.validation is not None
            rate = first.candidate.outer_learning_rate
            assert rate is not None
            size = min(config.method.batch_size, len(stage.validation))
            key = (first.seed, "search-validation", first.candidate.restart)
            stream = Minibatches(stage.validation, size, key)
            return HypergradientDescentRun(
                *start,
                stream,
                outer_learning_rate=rate,
                clip=config.hd.clip,
                clip_gradient=clip,
                learned=config.method.learned,
            )
        horizon = config.epochs * stage.minibatches.steps_per_epoch
        schedules = [trial.schedule or trial.candidate.over(horizon) for trial in trials]
        if others:
            return EnsembleRun(*start, schedules, clip)
        return ScheduledRun(*start, schedules[0], clip, stage.replay)

    def _outcome(
        self, stage: Stage, trial: Trial, inner: InnerRun, member: int, loss: float, alive: int
    ) -> Outcome:
        theta, _, buffers = inner.state
        size = 1
        if isinstance(inner, EnsembleRun):
            size = len(theta)
            theta, buffers = theta[member], {name: b[member] for name, b in buffers.items()}
        whole = alive == inner.horizon
        per_epoch = inner.minibatches.steps_per_epoch
        steps = inner.horizon if whole else -(-(alive + 1) // per_epoch) * per_epoch
        looks = trial.final or self._config.test_curves

        def on(images: Images | None) -> tuple[float | None, float | None]:
            if images is None:
                return None, None
            if not whole:
                return float("nan"), images.chance
            return stage.model.evaluate(theta, buffers, in_batches(images, EVALUATION_BATCH))

        validation_loss, validation = on(stage.validation)
        _, test = on(self._data.test if looks else None)
        judged, images = (test, self._data.test) if trial.final else (validation, stage.validation)
        assert judged is not None
        assert images is not None
        return Outcome(
            validation_accuracy=validation,
            validation_loss=validation_loss,
            test_accuracy=test,
            train_loss=loss,
            diverged=judged <= images.chance,
            diverged_step=None if whole else alive,
            steps=steps,
            spent=Spent(gradients=steps * (2 if trial.hd else 1), trials=1),
            ensemble=size,
            values=_history(inner)
            if whole and isinstance(inner, HypergradientDescentRun)
            else None,
        )


def _make_stage(config: RunConfig, data: Dataset, seed: int, restart: int, final: bool) -> Stage:
    own = seed_of(seed, "restart", restart) if restart else seed
    model = make_model(config, data, own)
    training, validation, key = data.train, None, (seed, "retrain", 0)
    if not final:
        key = (seed, "search", restart)
        kept, held_out = train_validation_split(
            len(data.train), config.method.validation_fraction, seed=own, outer_step=SEARCH_SPLIT
        )
        training, validation = data.train.take(kept), data.train.take(held_out)
    augment = Augmentation() if config.data.augment else None
    minibatches = Minibatches(training, config.method.batch_size, key, augment)
    theta = model.theta()
    replay = replay_for(model, theta.device, config.replay)
    return Stage(own, model, theta, minibatches, validation, replay)


def _go(inner: InnerRun, tick: Tick) -> tuple[list[float], list[int]]:
    """Train to the end, or until no member's weights are finite; look once an epoch.

    Returns:
        Of each member: mean training loss of the last epoch, and after how many steps its weights
        were still finite.
    """
    per_epoch = inner.minibatches.steps_per_epoch
    survived = torch.zeros((), dtype=torch.int64, device=inner.state.theta.device)
    losses: list[float] = []
    while not inner.done:
        inner.advance()
        survived = survived + inner.state.theta.isfinite().all(dim=-1)
        tick()
        if inner.step % per_epoch == 0:
            losses = inner.take_losses()
            if bool((survived < inner.step).all()):
                break
    return losses, survived.reshape(-1).tolist()


def _history(inner: HypergradientDescentRun) -> dict[str, list[float]]:
    rows = inner.take_history()
    return {kind: [float(row[kind]) for row in rows] for kind in KINDS}
