"""Driver of Figures 1 and 4: learn a schedule, run hypergradient descent, retrain, compare.

For each seed: the outer loop (`ours`), hypergradient descent online (`hd`), then trainings on the
full training set that differ in nothing but the schedule: the learned one (`ours_retrained`), the
one hypergradient descent went through (`hd_retrained`), and plain SGD (`sgd`). The driver can stop
after any inner step and go on from there.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, Protocol

import pandas as pd
import torch
from torch import Tensor

from hypergrad.baseline import baseline_schedule
from hypergrad.data import Augmentation, Dataset, Images, in_batches, train_validation_split
from hypergrad.flat import FlatModel
from hypergrad.forward import ForwardOptions
from hypergrad.inner import ForwardRun, GreedyRun, InnerRun, Minibatches, ScheduledRun
from hypergrad.outer import OuterState, has_converged, retreat, sign_descent, start
from hypergrad.plan import Plan
from hypergrad.runs.interrupt import Interrupt
from hypergrad.runs.journal import Journal, finite_or_none
from hypergrad.schedule import KINDS, Schedule, windows
from hypergrad.schema import RunConfig

__all__ = ["Interrupted", "Learner", "Watch"]

EVALUATION_BATCH = 1000
HD_SPLIT = -1  # hypergradient descent has a split of its own


class Interrupted(Exception):  # noqa: N818 (a request, not an error)
    """The run stopped on request, after a checkpoint."""


class Watch(Protocol):
    """What a driver tells whoever watches it."""

    def begin(self, seed: int, method: str, outer_step: int, steps: int) -> None:
        """An inner run begins, or goes on after a resume."""
        ...

    def step(self, inner: InnerRun, cost: float) -> None:
        """An inner step was taken; `cost` gradient evaluations of the whole run are done."""
        ...

    def row(self, row: Mapping[str, int | float | str | None]) -> None:
        """A row of `inner.csv` was written."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line happened."""
        ...


@dataclass
class Progress:
    """Where a run is, between inner steps; everything here fits JSON.

    Attributes:
        seed_index: Which repeat.
        method: Which part of it, as in `inner.csv`.
        outer_step: Of `ours`.
        outer: Values, step sizes and signs of the outer optimiser.
        best: The best outer step of this seed so far.
        schedules: Best schedule of each finished seed, as in `schedule.json`.
        results: As in `summary.json`.
        inner: Scalars of the inner run under way, or None between inner runs.
        seconds: Wall time of that inner run so far.
    """

    seed_index: int = 0
    method: str = "ours"
    outer_step: int = 0
    outer: dict[str, list] = field(default_factory=dict)
    best: dict | None = None
    schedules: list[dict] = field(default_factory=list)
    results: list[dict] = field(default_factory=list)
    inner: dict | None = None
    seconds: float = 0.0


class _Evaluation(NamedTuple):
    validation_loss: float | None
    validation_accuracy: float | None
    test_loss: float
    test_accuracy: float


class Learner:
    """One run of the driver, from wherever its journal says it is.

    Args:
        config: The run's configuration.
        data: The images, on the compute device and in the run's precision.
        make_model: Maps a seed to the network with that seed's initial weights.
        plan: What the run is going to do, for its progress.
        journal: The run's files.
        watch: Is told what happens.
        interrupt: Asks the run to stop.
    """

    def __init__(
        self,
        config: RunConfig,
        data: Dataset,
        make_model: Callable[[int], FlatModel],
        plan: Plan,
        journal: Journal,
        watch: Watch,
        interrupt: Interrupt,
    ) -> None:
        self.config = config
        self._data = data
        self._make_model = make_model
        self._plan = plan
        self._journal = journal
        self._watch = watch
        self._interrupt = interrupt
        self._augment = Augmentation() if config.data.augment else None
        self._guess = data.test.labels.bincount().max().item() / len(data.test)
        self._options = ForwardOptions(
            config.method.clip_gradient,
            config.method.clip_products,
            config.method.truncation,
            config.model.curvature,
        )
        self.progress = Progress()
        self._tensors: dict[str, Tensor] | None = None
        self._model: FlatModel | None = None
        self._theta = torch.empty(0)

    def resume(self) -> None:
        """Go to where the newest whole checkpoint is; to the start if there is none."""
        checkpoint, remarks = self._journal.load()
        for remark in remarks:
            self._watch.note(f"passed over a damaged checkpoint: {remark}")
        if checkpoint is None:
            return
        self.progress = Progress(**checkpoint.state["progress"])
        if self.progress.inner is not None:
            self._tensors = checkpoint.tensors
        random = checkpoint.tensors.get("random_state")
        if random is not None:
            torch.set_rng_state(random)

    def run(self) -> None:
        """Go through all parts that are left.

        Raises:
            Interrupted: After a checkpoint, when asked to stop.
        """
        now = self.progress
        while now.seed_index < len(self.config.seeds):
            self._prepare_model()
            self._announce()
            if now.method == "ours":
                self._outer_step()
            elif now.method == "hd":
                self._hypergradient_descent()
            else:
                self._retrain()
            self._announce()
            self._save(None)
            if self._interrupt.requested:
                raise Interrupted(self._interrupt.requested)

    @property
    def seed(self) -> int:
        """The seed of the repeat under way."""
        return self.config.seeds[self.progress.seed_index]

    # Parts

    def _outer_step(self) -> None:
        """One outer step: an inner run with tangents, then a move of all values."""
        config, now = self.config, self.progress
        method = config.method
        counts = (method.learning_rates, method.momenta, method.weight_decays)
        if not now.outer:
            now.outer = _as_lists(start(counts, config.outer.step_sizes))
        state = _as_state(now.outer)
        schedule = Schedule.from_flat(state.values, counts)
        train, validation = self._split(now.outer_step)
        epochs = config.outer.horizon(now.outer_step, config.epochs)
        minibatches = self._minibatches(train, "ours", now.outer_step)
        inner = ForwardRun(self._net, self._theta, minibatches, epochs, schedule, self._options)
        seen = self._go(inner, validation)
        if inner.done and inner.is_finite():
            found = inner.hypergradients(in_batches(validation, EVALUATION_BATCH))
            hypergradients = found.values
            after = sign_descent(state, hypergradients)
        else:
            self._watch.note(
                f"outer step {now.outer_step} diverged at inner step {inner.step}: "
                "half a step back, step sizes halved"
            )
            hypergradients = (math.nan,) * len(state.values)
            after = retreat(state)
        self._write_outer(schedule, epochs, inner, hypergradients, after)
        self._keep_best(schedule, seen)
        now.outer = _as_lists(after)
        now.outer_step += 1
        converged = has_converged(after, config.outer.tolerance)
        if converged:
            self._watch.note(f"converged after {now.outer_step} outer steps")
        if converged or now.outer_step == config.outer.steps:
            self._finish_outer()

    def _hypergradient_descent(self) -> None:
        config = self.config
        train, validation = self._split(HD_SPLIT)
        size = min(config.method.batch_size, len(validation))
        inner = GreedyRun(
            self._net,
            self._theta,
            self._minibatches(train, "hd", 0),
            config.epochs,
            Minibatches(validation, size, (self.seed, "hd-validation")),
            config.greedy,
            config.method.clip_gradient,
        )
        seen = self._go(inner, validation)
        self._write_result("hd", seen, inner, None)
        self._next()

    def _retrain(self) -> None:
        """Train on the full training set: same weights, same batches, only the schedule differs."""
        config, method = self.config, self.progress.method
        minibatches = self._minibatches(self._data.train, "retrain", 0)
        horizon = config.epochs * minibatches.steps_per_epoch
        schedule = self._schedule_of(method, horizon)
        if schedule is None:
            self._watch.note(f"{method}: its values left the finite numbers, nothing to retrain")
            self._write_result(method, None, None, None)
            self._next()
            return
        inner = ScheduledRun(
            self._net,
            self._theta,
            minibatches,
            config.epochs,
            schedule,
            config.method.clip_gradient,
        )
        seen = self._go(inner, None)
        best = self.progress.schedules[-1]["outer_step"] if method == "ours_retrained" else None
        self._write_result(method, seen, inner, best)
        self._next()

    def _schedule_of(self, method: str, horizon: int) -> Schedule | None:
        if method == "sgd":
            return baseline_schedule(self.config.baseline, horizon)
        if method == "ours_retrained":
            return Schedule.from_dict(self.progress.schedules[-1])
        record = pd.read_csv(self._journal.run.path / "greedy.csv", **_exact_floats())
        record = record[record["seed"] == self.seed]
        schedule = Schedule(*(tuple(record[kind]) for kind in KINDS))
        return schedule if schedule.is_finite() else None

    # The inner loop

    def _go(self, inner: InnerRun, validation: Images | None) -> _Evaluation:
        """Run an inner run to its end, or until its weights are no longer finite numbers."""
        now = self.progress
        if self._tensors is not None and now.inner is not None:
            inner.restore(self._tensors, now.inner)
        else:
            now.seconds = 0.0
        self._tensors = None
        self._watch.begin(self.seed, now.method, now.outer_step, inner.horizon)
        part = next(
            part
            for part in self._plan.parts
            if part.method == now.method and part.outer_step == now.outer_step
        )
        before = now.seed_index * self._plan.cost
        before += self._plan.cost_before(now.method, now.outer_step)
        began = saved = time.monotonic()
        earlier = now.seconds
        seen = _Evaluation(math.nan, 0.0, math.nan, 0.0)
        while not inner.done:
            inner.advance()
            now.seconds = earlier + time.monotonic() - began
            self._watch.step(inner, before + part.gradients * inner.step)
            if self._row_is_due(inner):
                seen = self._write_row(inner, validation)
                if not inner.is_finite():
                    break
            if self._interrupt.requested:
                self._save(inner)
                raise Interrupted(self._interrupt.requested)
            if time.monotonic() - saved >= self.config.checkpoint_seconds:
                self._save(inner)
                saved = time.monotonic()
        return seen

    def _row_is_due(self, inner: InnerRun) -> bool:
        per_epoch, rows = inner.minibatches.steps_per_epoch, self.config.rows_per_epoch
        return inner.step * rows // per_epoch > (inner.step - 1) * rows // per_epoch

    def _write_row(self, inner: InnerRun, validation: Images | None) -> _Evaluation:
        now = self.progress
        loss, accuracy = inner.take_means()
        seen = self._evaluate(inner, validation)
        row: dict[str, int | float | str | None] = {
            "seed": self.seed,
            "method": now.method,
            "outer_step": now.outer_step,
            "epoch": inner.epoch,
            "step": inner.step,
            "train_loss": loss,
            "train_accuracy": accuracy,
            "validation_loss": seen.validation_loss,
            "validation_accuracy": seen.validation_accuracy,
            "test_accuracy": seen.test_accuracy,
            "learning_rate": inner.values.alpha,
            "momentum": inner.values.beta,
            "weight_decay": inner.values.mu,
            "seconds": round(now.seconds, 3),
        }
        self._journal.append("inner", [row])
        if isinstance(inner, GreedyRun):
            self._write_history(inner)
        self._watch.row(row)
        return seen

    def _write_history(self, inner: GreedyRun) -> None:
        self._journal.append("greedy", ({"seed": self.seed, **row} for row in inner.take_history()))

    def _evaluate(self, inner: InnerRun, validation: Images | None) -> _Evaluation:
        def on(images: Images) -> tuple[float, float]:
            batches = in_batches(images, EVALUATION_BATCH)
            return inner.model.evaluate(inner.state.theta, inner.state.buffers, batches)

        test_loss, test_accuracy = on(self._data.test)
        if validation is None:
            return _Evaluation(None, None, test_loss, test_accuracy)
        return _Evaluation(*on(validation), test_loss, test_accuracy)

    # Records

    def _write_outer(
        self,
        schedule: Schedule,
        epochs: int,
        inner: ForwardRun,
        hypergradients: tuple[float, ...],
        after: OuterState,
    ) -> None:
        spans = [
            (window.start / inner.horizon * epochs, window.stop / inner.horizon * epochs)
            for count in schedule.counts
            for window in windows(count, inner.horizon)
        ]
        columns = zip(
            schedule.columns(),
            spans,
            hypergradients,
            after.step_sizes,
            inner.contributing,
            strict=True,
        )
        self._journal.append(
            "outer",
            (
                {
                    "seed": self.seed,
                    "outer_step": self.progress.outer_step,
                    "kind": kind,
                    "index": index,
                    "start_epoch": begin,
                    "end_epoch": end,
                    "value": value,
                    "hypergradient": h,
                    "step_size": gamma,
                    "sign": 0 if math.isnan(h) else int(h > 0) - int(h < 0),
                    "contributing_steps": steps,
                }
                for (kind, index, value), (begin, end), h, gamma, steps in columns
            ),
        )

    def _keep_best(self, schedule: Schedule, seen: _Evaluation) -> None:
        """Keep the outer step with the best validation accuracy; the loss decides a draw."""
        now = self.progress
        loss, accuracy = seen.validation_loss, seen.validation_accuracy
        assert loss is not None
        assert accuracy is not None
        if not math.isfinite(loss):
            return
        best = now.best
        if best is None or (accuracy, -loss) > (
            best["validation_accuracy"],
            -best["validation_loss"],
        ):
            now.best = {
                "outer_step": now.outer_step,
                "validation_accuracy": accuracy,
                "validation_loss": loss,
                "test_accuracy": seen.test_accuracy,
                **schedule.as_dict(),
            }

    def _finish_outer(self) -> None:
        now = self.progress
        best = now.best
        assert best is not None, "outer step 0 has all values zero and cannot diverge"
        now.schedules.append(
            {"seed": self.seed}
            | {k: v for k, v in best.items() if k not in ("validation_loss", "test_accuracy")}
        )
        now.results.append(
            {
                "seed": self.seed,
                "method": "ours",
                "test_accuracy": best["test_accuracy"],
                "validation_accuracy": best["validation_accuracy"],
                "diverged": False,
                "outer_step": best["outer_step"],
            }
        )
        self._next()

    def _write_result(
        self, method: str, seen: _Evaluation | None, inner: InnerRun | None, outer_step: int | None
    ) -> None:
        """Note a method's final accuracy; no better than one constant guess is divergence."""
        finite = seen is not None and inner is not None and inner.done and inner.is_finite()
        accuracy = seen.test_accuracy if seen is not None and finite else self._guess
        self.progress.results.append(
            {
                "seed": self.seed,
                "method": method,
                "test_accuracy": accuracy,
                "validation_accuracy": (
                    None
                    if seen is None or seen.validation_accuracy is None
                    else finite_or_none(seen.validation_accuracy)
                ),
                "diverged": not finite or accuracy <= self._guess,
                "outer_step": outer_step,
            }
        )

    def _announce(self) -> None:
        """Bring `summary.json` and `schedule.json` up to date."""
        now = self.progress
        done = now.seed_index * self._plan.cost
        if now.seed_index < len(self.config.seeds):
            done += self._plan.cost_before(now.method, now.outer_step)
        self._journal.summarise(
            {
                "progress": {
                    "phase": now.method,
                    "fraction": done / (self._plan.cost * len(self.config.seeds)),
                },
                "results": now.results,
            }
        )
        schedules = list(now.schedules)
        if now.method == "ours" and now.best is not None:  # the seed under way
            schedules.append({"seed": self.seed, **now.best})
        self._journal.run.write_json("schedule.json", {"schedules": schedules})

    def _save(self, inner: InnerRun | None) -> None:
        now = self.progress
        tensors: dict[str, Tensor] = {}
        now.inner = None
        if inner is not None:
            if isinstance(inner, GreedyRun):
                self._write_history(inner)
            tensors, now.inner = inner.snapshot()
        # Batches need no generator state; a network with dropout draws from the global one.
        tensors = {**tensors, "random_state": torch.get_rng_state()}
        state = json.loads(json.dumps(asdict(now)))
        self._journal.save(tensors, {"progress": state})

    # Small things

    @property
    def _net(self) -> FlatModel:
        assert self._model is not None
        return self._model

    def _prepare_model(self) -> None:
        if self._model is None:
            self._model = self._make_model(self.seed)
            self._theta = self._model.theta()

    def _next(self) -> None:
        """Go to the next part of this seed, or to the next seed."""
        now = self.progress
        order = list(dict.fromkeys(part.method for part in self._plan.parts))
        place = order.index(now.method) + 1
        now.outer_step = 0
        if place < len(order):
            now.method = order[place]
            return
        now.seed_index += 1
        now.method, now.outer, now.best = order[0], {}, None
        self._model = None

    def _split(self, outer_step: int) -> tuple[Images, Images]:
        train, validation = train_validation_split(
            len(self._data.train),
            self.config.method.validation,
            seed=self.seed,
            outer_step=outer_step,
        )
        return self._data.train.take(train), self._data.train.take(validation)

    def _minibatches(self, train: Images, name: str, outer_step: int) -> Minibatches:
        key = (self.seed, name, outer_step)
        return Minibatches(train, self.config.method.batch_size, key, self._augment)


def _as_lists(state: OuterState) -> dict[str, list]:
    return {name: list(value) for name, value in state._asdict().items()}


def _as_state(lists: Mapping[str, list]) -> OuterState:
    return OuterState(**{name: tuple(value) for name, value in lists.items()})


def _exact_floats() -> dict[str, str]:
    """Before pandas 3.1, reading back the very number that was written had to be asked for."""
    major, minor = (int(part) for part in pd.__version__.split(".")[:2])
    return {} if (major, minor) >= (3, 1) else {"float_precision": "round_trip"}
