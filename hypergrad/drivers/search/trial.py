"""One trial: train with a schedule from one seed, and see what it comes to.

Everything that a search compares goes through here, and so through the inner run that retrains a
learned schedule: what differs between two rows of a table is the schedule alone.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from hypergrad.config.schema import RunConfig
from hypergrad.core.budget import Spent
from hypergrad.core.dead_network import is_dead
from hypergrad.core.outer_optimizer import selection_key
from hypergrad.core.schedule import Schedule
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
from hypergrad.drivers.inner_optimizer import inner_optimizer, learned_of_rule
from hypergrad.drivers.search.candidates import Candidate, Scores
from hypergrad.training.cuda_graph import WARM_UP
from hypergrad.training.ensemble import (
    EnsembleRun,
    EnsembleSize,
    JointRun,
    fastest_size,
    joint_obstacle,
)
from hypergrad.training.graphed_step import Replay, replay_for
from hypergrad.training.hypergradient_descent import HypergradientDescentRun
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import InnerRun, ScheduledRun, steps
from hypergrad.training.joint_descent import JointDescentRun

__all__ = ["Known", "Start", "Trainer", "Trial", "TrialProblem", "TrialResult", "scores_of"]

SEARCH_SPLIT = -2  # the outer loop splits with 0, 1, ..., hypergradient descent beside it with -1

Tick = Callable[[], None]
Known = Callable[["Trial"], "TrialResult | None"]


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

    @property
    def start(self) -> "Start":
        """What trials must have in common to be trained together."""
        candidate = self.candidate
        if self.final:
            return Start(self.seed, 0, True, None)
        return Start(self.seed, candidate.restart, False, candidate.epochs)


class Start(NamedTuple):
    """What fixes the weights, the split, the minibatches and the length of a training.

    Attributes:
        seed: Of the trial.
        restart: How often it began anew from other weights.
        final: Whether it is on the full training set.
        epochs: As in `Candidate`.
    """

    seed: int
    restart: int
    final: bool
    epochs: int | None


class TrialResult(NamedTuple):
    """What a trial came to. Accuracies are in [0, 1]; a diverged trial scores chance.

    Attributes:
        validation_accuracy: None for a final training.
        validation_loss: Likewise; may be infinite or NaN.
        test_accuracy: None where the test set was not looked at.
        train_loss: Mean over the minibatches of the last epoch.
        diverged: Its weights did not stay finite, or it is dead: no better than always naming
            one class (`hypergrad.core.dead_network`).
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
    def selection_key(self) -> tuple[float, float]:
        """What orders trials by validation; the greatest is the best."""
        assert self.validation_accuracy is not None
        assert self.validation_loss is not None
        return selection_key(self.validation_accuracy, self.validation_loss)


def scores_of(known: Known, seed: int) -> Scores:
    """Return what the candidates of a seed came to, as `candidates` asks for it."""

    def score(candidate: Candidate) -> tuple[float, float] | None:
        result = known(Trial(candidate, seed))
        return None if result is None else result.selection_key

    return score


class TrialProblem(NamedTuple):
    """What trials of one start have in common: they differ in nothing but the schedule.

    Attributes:
        seed: Of the weights and the split.
        inner: The training.
        validation: The images held out; None in a final training.
        replay: Takes the steps of a trial alone, if they are replayed.
        joint_replay: Takes those of several; that they cannot be recorded need not hold of one.
    """

    seed: int
    inner: InnerProblem
    validation: Images | None
    replay: Replay | None
    joint_replay: Replay | None


class Trainer:
    """Trains trials; keeps the network and the images of the last one for the next.

    Args:
        config: The run's configuration.
        data: The images, on the compute device and in the run's precision.
    """

    def __init__(self, config: RunConfig, data: Dataset) -> None:
        self._config = config
        self._data = data
        self._problem: tuple[Start, TrialProblem] | None = None

    def train(self, trials: Sequence[Trial], tick: Tick = lambda: None) -> list[TrialResult]:
        """Train one trial, or several of one start together.

        Args:
            trials: Several are trained as an ensemble; they differ in their schedules alone, or in
                the outer learning rates of hypergradient descent.
            tick: Is called after every inner step; what it raises ends the training.

        Returns:
            One result a trial.
        """
        began = time.monotonic()
        problem = self.problem(trials[0])
        # For networks that draw, as dropout does: a trial is the same whatever was trained before.
        torch.manual_seed(problem.seed)
        inner = self._inner(problem, trials)
        survived = torch.zeros((), dtype=torch.int64, device=inner.state.theta.device)
        losses: list[float] = []
        for epoch_ends in steps(inner):
            survived = survived + inner.state.theta.isfinite().all(dim=-1)
            tick()
            if epoch_ends:
                losses = inner.take_losses()
        results = [
            self._result(problem, trial, inner, member, loss, alive)
            for member, (trial, loss, alive) in enumerate(
                zip(trials, losses, survived.reshape(-1).tolist(), strict=True)
            )
        ]
        seconds = (time.monotonic() - began) / len(trials)
        return [result._replace(spent=result.spent._replace(seconds=seconds)) for result in results]

    def problem(self, trial: Trial) -> TrialProblem:
        """Return what a trial starts from."""
        key = trial.start
        if self._problem is None or self._problem[0] != key:
            self._problem = key, _make_problem(self._config, self._data, key)
        return self._problem[1]

    def fastest_size(self, trial: Trial, largest: int, tick: Tick = lambda: None) -> EnsembleSize:
        """Measure how many trials like this one it pays to train together.

        Args:
            trial: One of them.
            largest: Trials at most.
            tick: Is called after every inner step.
        """
        problem = self.problem(trial)
        return fastest_size(
            problem.inner,
            lambda size: self._inner(problem, [trial] * size),
            largest,
            tick,
            warm_up=1 if problem.replay is None else 2 + WARM_UP,
        )

    def _inner(self, problem: TrialProblem, trials: Sequence[Trial]) -> InnerRun:
        if trials[0].hd:
            return self._descent(problem, trials)
        horizon = problem.inner.horizon
        schedules = [trial.schedule or trial.candidate.over(horizon) for trial in trials]
        if len(trials) > 1:
            return EnsembleRun(problem.inner, schedules, problem.joint_replay)
        return ScheduledRun(problem.inner, schedules[0], problem.replay)

    def _descent(self, problem: TrialProblem, trials: Sequence[Trial]) -> InnerRun:
        config, first = self._config, trials[0]
        assert problem.validation is not None
        rates = [trial.candidate.outer_learning_rate for trial in trials]
        rates = [rate for rate in rates if rate is not None]
        size = min(config.method.batch_size, len(problem.validation))
        key = (first.seed, "search-validation", first.candidate.restart)
        validation = Minibatches(problem.validation, size, key)
        clip, learned = config.hd.clip, learned_of_rule(config)
        # What one run does waits for the device at every step; an ensemble of one can be replayed.
        replayed = problem.replay is not None and joint_obstacle(problem.inner) is None
        if len(trials) > 1 or replayed:
            return JointDescentRun(
                problem.inner,
                validation,
                outer_rates=rates,
                clip=clip,
                learned=learned,
                replay=problem.joint_replay,
            )
        return HypergradientDescentRun(
            problem.inner,
            validation,
            outer_learning_rate=rates[0],
            clip=clip,
            learned=learned,
        )

    def _result(
        self,
        problem: TrialProblem,
        trial: Trial,
        inner: InnerRun,
        member: int,
        loss: float,
        alive: int,
    ) -> TrialResult:
        theta, _, buffers = inner.state
        size = 1
        if isinstance(inner, JointRun):
            size = len(theta)
            theta, buffers = theta[member], {name: b[member] for name, b in buffers.items()}
        whole = alive == inner.horizon
        per_epoch = inner.problem.minibatches.steps_per_epoch
        taken = inner.horizon if whole else -(-(alive + 1) // per_epoch) * per_epoch
        looks = trial.final or self._config.test_curves

        def on(images: Images | None) -> tuple[float | None, float | None]:
            if images is None:
                return None, None
            if not whole:
                return float("nan"), images.chance
            return problem.inner.model.evaluate(
                theta, buffers, in_batches(images, EVALUATION_BATCH)
            )

        validation_loss, validation = on(problem.validation)
        _, test = on(self._data.test if looks else None)
        values = None
        if whole and isinstance(inner, HypergradientDescentRun):
            values = inner.schedule.as_dict()
        elif whole and isinstance(inner, JointDescentRun):
            values = inner.schedules[member].as_dict()
        judged, images = (
            (test, self._data.test) if trial.final else (validation, problem.validation)
        )
        assert judged is not None
        assert images is not None
        return TrialResult(
            validation_accuracy=validation,
            validation_loss=validation_loss,
            test_accuracy=test,
            train_loss=loss,
            diverged=not whole or is_dead(judged, images.chance, len(images)),
            diverged_step=None if whole else alive,
            steps=taken,
            spent=Spent(gradients=taken * (2 if trial.hd else 1), trials=1),
            ensemble=size,
            values=values,
        )


def _make_problem(config: RunConfig, data: Dataset, start: Start) -> TrialProblem:
    seed, restart, final, epochs = start
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
    inner = InnerProblem.over_epochs(
        model, model.theta(), minibatches, epochs or config.epochs, inner_optimizer(config)
    )
    alone, joint = (replay_for(model, inner.theta.device, config.replay) for _ in range(2))
    return TrialProblem(own, inner, validation, alone, joint)
