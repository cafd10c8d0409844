"""Driver of Figures 1, 3 and 4: learn a schedule, run hypergradient descent, retrain, compare.

For each seed: the outer loop (`ours`, values shared or not), hypergradient descent online (`hd`),
then trainings on the full training set that differ in nothing but the schedule: the learned one
(`ours_retrained`), the one hypergradient descent went through (`hd_retrained`), and plain SGD
(`sgd`).
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from hypergrad.config.schema import RunConfig
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.outer_optimizer import all_lost
from hypergrad.core.schedule import Schedule, schedule_in
from hypergrad.core.seeding import seed_of
from hypergrad.data import Batches, Dataset, Images, Minibatches
from hypergrad.differentiation.loss_check import check_loss
from hypergrad.differentiation.options import ForwardOptions, choose
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.differentiation.self_test import self_test
from hypergrad.drivers.batching import (
    hand_set_schedule,
    minibatches_of,
    outer_options,
    split,
    validation_batches,
)
from hypergrad.drivers.cost import Plan
from hypergrad.drivers.inner_optimizer import inner_optimizer, learned_at, learned_of_rule
from hypergrad.drivers.learn.confirmation import confirmed, finalists
from hypergrad.drivers.learn.inner_loop import RecordedInnerLoop
from hypergrad.drivers.learn.state import outer_rows
from hypergrad.runs.errors import RunFailed
from hypergrad.training.differentiated_run import ForwardRun, ReverseRun, differentiated
from hypergrad.training.graphed_step import Replay, replay_for
from hypergrad.training.hypergradient_descent import HypergradientDescentRun
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import InnerRun, ScheduledRun
from hypergrad.training.outer_loop import (
    Best,
    Evaluation,
    OuterData,
    OuterProgress,
    OuterStep,
)
from hypergrad.training.outer_search import OuterProblem, OuterSearch
from hypergrad.training.outer_state import best_as_dict

__all__ = ["LearnDriver", "differentiation"]

HD_SPLIT = -1  # hypergradient descent has a split of its own
SPOKEN = 3  # complaints of one outer step that are said aloud


def differentiation(config: RunConfig) -> ForwardOptions | ReverseOptions:
    """Return how the configured method computes hypergradients."""
    method, tested = config.method, config.selftest == "on"
    if method.mode == "reverse":
        reverse = config.reverse
        return ReverseOptions(
            memory_gb=reverse.memory_gb,
            validation_chunks=reverse.validation_chunks,
            truncation=method.truncation,
            clip_adjoints=reverse.clip_adjoints,
            keep_graphs=reverse.keep_graphs,
            self_test=tested,
        )
    return ForwardOptions(
        clip_products=method.clip_products,
        truncation=method.truncation,
        strategy=config.hvp_strategy,
        precision=config.hvp.precision,
        self_test=tested,
    )


class LearnDriver:
    """One run of the driver, from wherever its loop says it is.

    Args:
        config: The run's configuration.
        data: The images, on the compute device and in the run's precision.
        make_model: Maps a seed to the network with that seed's initial weights.
        plan: What the run is going to do.
        loop: Takes inner runs to their end; holds the run's progress.
    """

    def __init__(
        self,
        config: RunConfig,
        data: Dataset,
        make_model: Callable[[int], FlatModel],
        plan: Plan,
        loop: RecordedInnerLoop,
    ) -> None:
        self.config = config
        self.loop = loop
        self._data = data
        self._make_model = make_model
        self._methods = list(dict.fromkeys(run.method for run in plan.runs))
        self._options = differentiation(config)
        self._outer = outer_options(config)
        self._optimizer = inner_optimizer(config)
        self._model: FlatModel | None = None
        self._replay: Replay | None = None
        self._theta = torch.empty(0)

    def run(self) -> None:
        """Go through all inner runs that are left.

        Raises:
            Interrupted: After a checkpoint, when asked to stop.
        """
        now = self.loop.progress
        self._settle_strategy()
        self._test_the_problem()
        self.loop.announce()
        while now.seed_index < len(self.config.seeds):
            self._prepare_model()
            if now.method == "ours":
                for step in self._search():
                    self._record(step)
                    self._save()
                continue
            if now.method == "confirm":
                self._confirm()
            elif now.method == "hd":
                self._hypergradient_descent()
            else:
                self._retrain()
            self._save()

    def _save(self) -> None:
        self.loop.announce()
        self.loop.save(None)

    # The outer loop

    def _search(self) -> OuterSearch:
        problem = OuterProblem(
            self._outer_data,
            lambda horizon: learned_at(self.config, horizon),
            self._differentiated,
            self._another,
        )
        now = self.loop.progress.outer
        return OuterSearch(problem, self._outer, self.loop, now, self.loop.before)

    def _outer_data(self, number: int) -> OuterData:
        train, validation = split(self.config, self._data, self.loop.seed, number)
        minibatches = self._minibatches(train, "ours", number)
        problem = self._problem(minibatches, self._outer.horizon(number))
        return OuterData(problem, validation, validation_batches(self.config, validation))

    def _another(self, number: int, k: int) -> OuterData:
        """The data of a further trajectory of an outer step: other weights, order and split."""
        fresh = seed_of(self.loop.seed, "trajectory", number, k) % 2**31
        train, validation = split(self.config, self._data, fresh, 0)
        minibatches = minibatches_of(self.config, train, fresh, "ours", 0)
        problem = self._problem(minibatches, self._outer.horizon(number))
        problem = problem._replace(theta=self._make_model(fresh).theta())
        return OuterData(problem, validation, validation_batches(self.config, validation))

    def _differentiated(
        self, data: OuterData, schedule: Schedule, number: int
    ) -> ForwardRun | ReverseRun:
        """The inner run of an outer step."""
        return differentiated(data.problem, schedule, self._options, self._replay)

    def _record(self, step: OuterStep) -> None:
        """Write down an outer step, and go on to the next inner runs if it was the last one."""
        now, seed = self.loop.progress, self.loop.seed
        self._complain(step)
        self.loop.log.append("outer", outer_rows(step, seed))
        now.keep(step, seed)
        if self.config.outer.confirm:
            seen = Evaluation(
                step.validation_loss, step.validation_accuracy, test_accuracy=step.test_accuracy
            )
            now.candidates.append(best_as_dict(Best(step.number, step.schedule, seen)))
        if step.ended:
            self.loop.watch.note(step.ended)
        if step.ended is not None:
            if now.outer.best is None:
                raise RunFailed(f"seed {seed}: {step.ended or 'no outer step stayed finite'}")
            if not self.config.outer.confirm:
                now.finish_outer(seed)
            self._next()

    def _complain(self, step: OuterStep) -> None:
        """Say what was not a finite number, by name and step."""
        number, note = step.number, self.loop.watch.note
        half = "half of the last move is taken back"
        if step.diverged_step is not None:
            which = "" if step.doubts is None else f" ({step.doubts})"
            note(f"outer step {number} diverged at inner step {step.diverged_step}{which}: {half}")
            return
        lost = all_lost(step.hypergradients)
        for text in step.complaints[:SPOKEN]:
            note(f"outer step {number}: {text}" + ("" if lost else ", and moves nothing"))
        if step.doubts is not None:
            note(f"outer step {number}: {step.doubts}")
        if len(step.complaints) > SPOKEN:
            note(f"... and {len(step.complaints) - SPOKEN} more: not_finite in outer.csv")
        if lost:
            note(f"outer step {number}: no hypergradient is left to follow: {half}")

    def _confirm(self) -> None:
        """Train one of the best outer steps again; after the last time, one is named best."""
        now, seed, outer = self.loop.progress, self.loop.seed, self.config.outer
        tried = finalists(now.candidates, outer.confirm, outer.select)
        repeat, place = divmod(len(now.confirmed), len(tried))
        fresh = seed_of(seed, "confirm", repeat) % 2**31
        train, validation = split(self.config, self._data, fresh, 0)
        model = self._make_model(fresh)
        minibatches = minibatches_of(self.config, train, fresh, "confirm", 0)
        given = model, model.theta(), minibatches, self.config.epochs, self._optimizer
        inner = ScheduledRun(InnerProblem.over_epochs(*given), schedule_in(tried[place]))
        loss = self.loop.train(inner, validation).validation_loss
        whole = inner.came_through() and loss is not None and math.isfinite(loss)
        now.confirmed.append(loss if whole else None)
        if len(now.confirmed) == len(tried) * outer.confirmations:
            best = confirmed(tried, now.confirmed)
            self.loop.watch.note(f"outer step {best['outer_step']}: {best['confirmed']}")
            now.finish_outer(seed, best)
            self._next()

    # The other inner runs

    def _hypergradient_descent(self) -> None:
        config = self.config
        train, validation = split(config, self._data, self.loop.seed, HD_SPLIT)
        size = min(config.method.batch_size, len(validation))
        inner = HypergradientDescentRun(
            self._problem(self._minibatches(train, "hd", 0), config.epochs),
            Minibatches(validation, size, (self.loop.seed, "hd-validation")),
            outer_learning_rate=config.hd.hyper_learning_rate,
            clip=config.hd.clip,
            learned=learned_of_rule(config),
        )
        self._note_result(inner, self.loop.train(inner, validation))
        self.loop.progress.hd_schedule = inner.schedule
        self._next()

    def _retrain(self) -> None:
        """Train on the full training set: same weights, same batches, only the schedule differs."""
        now = self.loop.progress
        problem = self._problem(
            self._minibatches(self._data.train, "retrain", 0), self.config.epochs
        )
        schedule = self._schedule_of(now.method, problem.horizon)
        if schedule.is_finite():
            inner = ScheduledRun(problem, schedule, self._replay)
            self._note_result(inner, self.loop.train(inner, None))
        else:
            self.loop.watch.note(
                f"{now.method}: its values left the finite numbers, nothing to retrain"
            )
            self._add_result(None)
        self._next()

    def _schedule_of(self, method: str, horizon: int) -> Schedule:
        now = self.loop.progress
        if method == "start":
            return self._optimizer.start()
        if method == "sgd":
            return hand_set_schedule(self.config, horizon)
        if method == "ours_retrained":
            return schedule_in(now.schedules[-1])
        assert now.hd_schedule is not None, "hypergradient descent comes before its retraining"
        return now.hd_schedule

    def _note_result(self, inner: InnerRun, seen: Evaluation) -> None:
        whole = inner.came_through()
        self._add_result(seen if whole else None)

    def _add_result(self, seen: Evaluation | None) -> None:
        test = self._data.test
        self.loop.progress.add_result(self.loop.seed, seen, test.chance, len(test))

    def _settle_strategy(self) -> None:
        """Choose how to compute Hessian products; a resumed run keeps what it began with."""
        now, options = self.loop.progress, self._options
        if not isinstance(options, ForwardOptions) or options.strategy != "auto":
            return
        if "ours" not in self._methods:
            return
        if now.strategy is None:
            self._prepare_model()
            problem = self._outer_data(0).problem
            schedule = self._optimizer.start()
            bound = self._optimizer.bind(self._net, schedule)
            batch, count = problem.minibatches.at(0), len(schedule.flat)
            values = check_loss(self._net, bound, schedule, self._theta, batch)
            choice = choose(self._net, self._theta, batch, count, options, values)
            now.strategy = choice._asdict()
            self.loop.watch.note(f"{choice}; hvp.strategy={choice.strategy} skips the trial")
            self.loop.save(None)
        self._options = replace(options, strategy=now.strategy["strategy"])

    def _test_the_problem(self) -> None:
        """Try at every start whether what is differentiated is the training; say so in a line."""
        finished = self.loop.progress.seed_index >= len(self.config.seeds)
        if finished or "ours" not in self._methods or not self._options.self_test:
            return
        self._prepare_model()
        options, schedule = self._options, self._optimizer.start()
        bound = self._optimizer.bind(self._net, schedule)
        batch = self._outer_data(0).problem.minibatches.at(0)
        strategy = options.strategy if isinstance(options, ForwardOptions) else None
        given = self._net, self._theta, batch, bound, schedule, strategy
        self.loop.watch.note(str(self_test(*given)))

    # Small things

    @property
    def _net(self) -> FlatModel:
        assert self._model is not None
        return self._model

    def _prepare_model(self) -> None:
        if self._model is None:
            self._model = self._make_model(self.loop.seed)
            self._theta = self._model.theta()
            device, note = self._theta.device, self.loop.watch.note
            self._replay = replay_for(self._model, device, self.config.replay, note)

    def _next(self) -> None:
        """Go to the next method of this seed, or to the next seed."""
        now = self.loop.progress
        place = self._methods.index(now.method) + 1
        if place < len(self._methods):
            now.method = self._methods[place]
            return
        now.seed_index += 1
        now.method, now.outer, now.hd_schedule = self._methods[0], OuterProgress(), None
        self._model = self._replay = None

    def _problem(self, minibatches: Batches, epochs: int) -> InnerProblem:
        return InnerProblem.over_epochs(
            self._net, self._theta, minibatches, epochs, self._optimizer
        )

    def _minibatches(self, train: Images, name: str, outer_step: int) -> Batches:
        return minibatches_of(self.config, train, self.loop.seed, name, outer_step)
