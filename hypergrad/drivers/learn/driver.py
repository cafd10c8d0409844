"""Driver of Figures 1, 3 and 4: learn a schedule, run hypergradient descent, retrain, compare.

For each seed: the outer loop (`ours`, values shared or not), hypergradient descent online (`hd`),
then trainings on the full training set that differ in nothing but the schedule: the learned one
(`ours_retrained`), the one hypergradient descent went through (`hd_retrained`), and plain SGD
(`sgd`).
"""

import csv
import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from hypergrad.config.schema import RunConfig
from hypergrad.core.budget import Spent
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.outer_optimizer import has_converged, has_lost_its_way, move, start
from hypergrad.core.schedule import KINDS, Schedule
from hypergrad.data import Dataset, Images, Minibatches
from hypergrad.differentiation.options import ForwardOptions, choose
from hypergrad.differentiation.result import Hypergradients
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.drivers.batching import hand_set_schedule, minibatches_of, split, validation_batches
from hypergrad.drivers.cost import Plan
from hypergrad.drivers.learn.inner_loop import Loop
from hypergrad.drivers.learn.rank_protocol import LedRun, Task
from hypergrad.drivers.learn.state import Evaluation, as_lists, as_state, outer_rows
from hypergrad.parallel.ranks import ALONE, Ranks
from hypergrad.training.differentiated_run import ForwardRun, ReverseRun, differentiated
from hypergrad.training.graphed_step import Replay, replay_for
from hypergrad.training.hypergradient_descent import HypergradientDescentRun
from hypergrad.training.inner_run import InnerRun, ScheduledRun

__all__ = ["LearnDriver", "differentiation"]

HD_SPLIT = -1  # hypergradient descent has a split of its own
SPOKEN = 3  # complaints of one outer step that are said aloud


def differentiation(config: RunConfig) -> ForwardOptions | ReverseOptions:
    """Return how the configured method computes hypergradients."""
    method = config.method
    if method.mode == "reverse":
        return ReverseOptions(method.clip_gradient, config.reverse.memory_gb, config.reverse.parts)
    return ForwardOptions(
        method.clip_gradient,
        method.clip_products,
        method.truncation,
        config.hvp_strategy,
        config.hvp.precision,
    )


class LearnDriver:
    """One run of the driver, from wherever its loop says it is.

    Args:
        config: The run's configuration.
        data: The images, on the compute device and in the run's precision.
        make_model: Maps a seed to the network with that seed's initial weights.
        plan: What the run is going to do.
        loop: Takes inner runs to their end; holds the run's progress.
        ranks: The processes that share the tangents, of which this is the first.
    """

    def __init__(
        self,
        config: RunConfig,
        data: Dataset,
        make_model: Callable[[int], FlatModel],
        plan: Plan,
        loop: Loop,
        ranks: Ranks = ALONE,
    ) -> None:
        self.config = config
        self.loop = loop
        self._data = data
        self._make_model = make_model
        self._parts = list(dict.fromkeys(part.method for part in plan.parts))
        self._ranks = ranks
        self._options = differentiation(config)
        self._model: FlatModel | None = None
        self._replay: Replay | None = None
        self._theta = torch.empty(0)

    def run(self) -> None:
        """Go through all parts that are left.

        Raises:
            Interrupted: After a checkpoint, when asked to stop.
        """
        now = self.loop.progress
        self._settle_curvature()
        self.loop.announce()
        while now.seed_index < len(self.config.seeds):
            self._prepare_model()
            if now.method == "ours":
                self._outer_step()
            elif now.method == "hd":
                self._hypergradient_descent()
            else:
                self._retrain()
            self.loop.announce()
            self.loop.save(None)

    # Parts

    def _outer_step(self) -> None:
        """One outer step: an inner run with its hypergradients, then a move of all values."""
        config, now, watch = self.config, self.loop.progress, self.loop.watch
        train, validation = self._split(now.outer_step)
        minibatches = self._minibatches(train, "ours", now.outer_step)
        epochs = config.outer.horizon(now.outer_step, config.epochs)
        counts = config.method.counts(epochs * minibatches.steps_per_epoch)
        if not now.outer:
            now.outer = as_lists(start(counts, config.outer.step_sizes))
        state = as_state(now.outer)
        schedule = Schedule.from_flat(state.values, counts)
        inner = self._differentiated(minibatches, epochs, schedule)
        seen = self.loop.go(inner, validation)
        found, began = None, time.monotonic()
        if inner.done and inner.is_finite():
            batches = validation_batches(config, validation)
            found = self.loop.hypergradients(inner, batches)
        after = move(state, None if found is None else found.values)
        self._complain(found, schedule, inner.step)
        unknown = (math.nan,) * len(state.values), (None,) * len(state.values)
        values, diagnostics = unknown if found is None else (found.values, found.diagnostics)
        rows = outer_rows(
            schedule,
            epochs,
            inner.horizon,
            values,
            after.step_sizes,
            inner.contributing,
            diagnostics,
        )
        self.loop.log.append(
            "outer", ({"seed": self.loop.seed, "outer_step": now.outer_step, **row} for row in rows)
        )
        gradients, products = inner.cost()
        seconds = now.seconds + time.monotonic() - began
        cost = Spent(seconds, gradients, products, trials=1)
        now.spend(self.loop.seed, cost)
        now.keep_best(schedule, seen)
        now.outer = as_lists(after)
        now.outer_step += 1
        ended = None
        if has_converged(after, config.outer.tolerance):
            ended = f"converged after {now.outer_step} outer steps"
        elif now.is_stale(config.outer.patience):
            ended = f"no better validation accuracy in {config.outer.patience} outer steps"
        elif not self._affords(cost):
            ended = f"the budget of {config.budget} is spent after {now.outer_step} outer steps"
        if ended:
            watch.note(ended)
        if ended or now.outer_step == config.outer.steps:
            now.finish_outer(self.loop.seed)
            self._next()

    def _differentiated(
        self, minibatches: Minibatches, epochs: int, schedule: Schedule
    ) -> ForwardRun | ReverseRun:
        """The inner run of this outer step, on however many ranks there are."""
        options = self._options
        if self._ranks.size > 1 and isinstance(options, ForwardOptions):
            now = self.loop.progress
            task = Task(self.config, self.loop.seed, now.outer_step, epochs, schedule, options)
            return LedRun(task, self._net, minibatches, self._replay, self._ranks)
        given = minibatches, epochs, schedule, options, self._replay
        return differentiated(self._net, self._theta, *given)

    def _affords(self, last: Spent) -> bool:
        """Whether the budget pays for another outer step, which costs what the last one did."""
        config, now, allowance = self.config, self.loop.progress, self.config.allowance
        if allowance is None or now.outer_step == 1:
            return True  # the first one has no products, and says nothing about the others
        horizons = [config.outer.horizon(now.outer_step - back, config.epochs) for back in (0, 1)]
        cost = last.over(horizons[0] / horizons[1])
        return allowance.allows(now.spent_by(self.loop.seed), cost)

    def _complain(self, found: Hypergradients | None, schedule: Schedule, step: int) -> None:
        """Say what was not a finite number, by name and step."""
        number, note = self.loop.progress.outer_step, self.loop.watch.note
        retreat = "half of the last move is taken back"
        if found is None:
            note(f"outer step {number} diverged at inner step {step}: {retreat}")
            return
        complaints = found.complaints(schedule)
        lost = has_lost_its_way(found.values)
        for text in complaints[:SPOKEN]:
            note(f"outer step {number}: {text}" + ("" if lost else ", and moves nothing"))
        if len(complaints) > SPOKEN:
            note(f"... and {len(complaints) - SPOKEN} more: not_finite in outer.csv")
        if lost:
            note(f"outer step {number}: no hypergradient is left to follow: {retreat}")

    def _hypergradient_descent(self) -> None:
        config = self.config
        train, validation = self._split(HD_SPLIT)
        size = min(config.method.batch_size, len(validation))
        inner = HypergradientDescentRun(
            self._net,
            self._theta,
            self._minibatches(train, "hd", 0),
            config.epochs,
            Minibatches(validation, size, (self.loop.seed, "hd-validation")),
            outer_learning_rate=config.hd.hyper_learning_rate,
            clip=config.hd.clip,
            clip_gradient=config.method.clip_gradient,
            learned=config.method.learned,
        )
        self._note_result(inner, self.loop.go(inner, validation))
        self._next()

    def _retrain(self) -> None:
        """Train on the full training set: same weights, same batches, only the schedule differs."""
        config, method = self.config, self.loop.progress.method
        minibatches = self._minibatches(self._data.train, "retrain", 0)
        horizon = config.epochs * minibatches.steps_per_epoch
        schedule = self._schedule_of(method, horizon)
        if schedule is None:
            self.loop.watch.note(
                f"{method}: its values left the finite numbers, nothing to retrain"
            )
            self.loop.progress.add_result(self.loop.seed, None, self._data.test.chance)
            self._next()
            return
        inner = ScheduledRun(
            self._net,
            self._theta,
            minibatches,
            config.epochs,
            schedule,
            config.method.clip_gradient,
            self._replay,
        )
        self._note_result(inner, self.loop.go(inner, None))
        self._next()

    def _schedule_of(self, method: str, horizon: int) -> Schedule | None:
        if method == "sgd":
            return hand_set_schedule(self.config, horizon)
        if method == "ours_retrained":
            return Schedule.from_dict(self.loop.progress.schedules[-1])
        with (self.loop.log.run.path / "hd.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["seed"]) == self.loop.seed]
        schedule = Schedule(*(tuple(float(row[kind]) for row in rows) for kind in KINDS))
        return schedule if schedule.is_finite() else None

    def _note_result(self, inner: InnerRun, seen: Evaluation) -> None:
        whole = inner.done and inner.is_finite()
        self.loop.progress.add_result(
            self.loop.seed, seen if whole else None, self._data.test.chance
        )

    def _settle_curvature(self) -> None:
        """Choose how to compute Hessian products; a resumed run keeps what it began with."""
        now, options = self.loop.progress, self._options
        if not isinstance(options, ForwardOptions) or options.strategy != "auto":
            return
        if "ours" not in self._parts:
            return
        if now.curvature is None:
            self._prepare_model()
            batch = self._minibatches(self._split(0)[0], "ours", 0).at(0)
            count = sum(self.config.method.counts(1))
            choice = choose(self._net, self._theta, batch, count, options, self._ranks)
            now.curvature = choice._asdict()
            self.loop.watch.note(f"{choice}; hvp.strategy={choice.strategy} skips the trial")
            self.loop.save(None)
        self._options = replace(options, strategy=now.curvature["strategy"])

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
        """Go to the next part of this seed, or to the next seed."""
        now = self.loop.progress
        place = self._parts.index(now.method) + 1
        now.outer_step = 0
        if place < len(self._parts):
            now.method = self._parts[place]
            return
        now.seed_index += 1
        now.method, now.outer, now.best = self._parts[0], {}, None
        self._model = self._replay = None

    def _split(self, outer_step: int) -> tuple[Images, Images]:
        return split(self.config, self._data, self.loop.seed, outer_step)

    def _minibatches(self, train: Images, name: str, outer_step: int) -> Minibatches:
        return minibatches_of(self.config, train, self.loop.seed, name, outer_step)
