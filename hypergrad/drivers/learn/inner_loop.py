"""The inner loop as a driver runs it: rows, checkpoints, interruptions, progress."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from hypergrad.config.schema import RunConfig
from hypergrad.core.functional_model import Batch
from hypergrad.core.schedule import Schedule
from hypergrad.data import EVALUATION_BATCH, Dataset, Images, in_batches
from hypergrad.differentiation.result import Hypergradients
from hypergrad.drivers.cost import Plan, PlannedRun
from hypergrad.drivers.inner_optimizer import learned_of_rule, logged_names
from hypergrad.drivers.learn.state import Progress, best_as_dict
from hypergrad.runs.interrupt import Interrupt, Interrupted
from hypergrad.runs.run_log import RunLog
from hypergrad.training.differentiated_run import ForwardRun, ReverseRun
from hypergrad.training.hypergradient_descent import HypergradientDescentRun
from hypergrad.training.inner_run import InnerRun, steps
from hypergrad.training.outer_loop import Evaluation

__all__ = ["RecordedInnerLoop", "Watch"]


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


class RecordedInnerLoop:
    """Takes inner runs to their end and keeps the run's files; can stop after any inner step.

    Args:
        config: The run's configuration.
        data: The images, for evaluation.
        plan: What the run is going to do, for its progress.
        log: The run's files.
        watch: Is told what happens.
        interrupt: Asks the run to stop.
    """

    def __init__(
        self,
        config: RunConfig,
        data: Dataset,
        plan: Plan,
        log: RunLog,
        watch: Watch,
        interrupt: Interrupt,
    ) -> None:
        self.config = config
        self.log = log
        self.watch = watch
        self.progress = Progress(method=plan.runs[0].method)
        self._data = data
        self._plan = plan
        self._interrupt = interrupt
        self._tensors: dict[str, Tensor] | None = None
        self._began = 0.0

    @property
    def seed(self) -> int:
        """The seed of the repeat under way."""
        return self.config.seeds[self.progress.seed_index]

    @property
    def seconds(self) -> float:
        """Wall time of the inner run under way, in all sessions."""
        return time.monotonic() - self._began

    def resume(self) -> None:
        """Go to where the newest whole checkpoint is; to the start if there is none."""
        checkpoint, remarks = self.log.load()
        for remark in remarks:
            self.watch.note(f"passed over a damaged checkpoint: {remark}")
        if checkpoint is None:
            return
        tensors = checkpoint.tensors
        self.progress = Progress.from_dict(checkpoint.state["progress"])
        if "hd_schedule" in tensors:
            names = learned_of_rule(self.config)
            values = tensors["hd_schedule"].tolist()
            self.progress.hd_schedule = Schedule(dict(zip(names, values, strict=True)))
        if self.progress.inner is not None:
            self._tensors = tensors
        torch.set_rng_state(tensors["random_state"])
        if "cuda_random_state" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["cuda_random_state"])

    def train(self, inner: InnerRun, validation: Images | Sequence[Batch] | None) -> Evaluation:
        """Take a run to its end, or until its weights are no longer finite numbers.

        Args:
            inner: The run, from its start; it goes on from the checkpoint that was resumed.
            validation: Validation images, or None.

        Returns:
            Its last evaluation.

        Raises:
            Interrupted: After a checkpoint, when asked to stop.
        """
        assert validation is None or isinstance(validation, Images), "data of a run are images"
        now = self.progress
        if self._tensors is not None and now.inner is not None:
            inner.restore(self._tensors, now.inner)
        else:
            now.seconds, now.seen = 0.0, None
        self._tensors = None
        self._began = time.monotonic() - now.seconds
        saved = time.monotonic()
        self.watch.begin(self.seed, now.method, now.outer_step, inner.horizon)
        planned, before = self._planned()
        for row_is_due in steps(inner, self.config.rows_per_epoch):
            now.seconds = self.seconds
            self.watch.step(inner, before + planned.gradients * inner.step)
            if row_is_due:
                self._write_row(inner, validation)
            self._stop_if_asked(inner)
            if time.monotonic() - saved >= self.config.checkpoint_seconds:
                self.save(inner)
                saved = time.monotonic()
        assert now.seen is not None, "every inner run ends with a row"
        return now.seen

    def differentiate(
        self, inner: ForwardRun | ReverseRun, batches: Sequence[tuple[Tensor, Tensor]]
    ) -> Hypergradients:
        """Return the hypergradients of an inner run that has come to its end.

        Args:
            inner: The run.
            batches: Of validation data.

        Returns:
            Its hypergradients.

        Raises:
            Interrupted: After a checkpoint, when asked to stop on the way back.
        """
        planned, before = self._planned()
        there = before + planned.gradients * inner.horizon

        saved = time.monotonic()

        def tick(steps: int) -> None:
            nonlocal saved
            self.watch.step(inner, there + planned.backward * steps)
            self._stop_if_asked(inner)
            if time.monotonic() - saved >= self.config.checkpoint_seconds:
                self.save(inner)
                saved = time.monotonic()

        return inner.hypergradients(batches, tick)

    def repeat(
        self, others: Iterable[ForwardRun | ReverseRun], batches: Sequence[Batch], kept: InnerRun
    ) -> list[Hypergradients | None]:
        """Return the hypergradients of further runs of the same schedule, without a row of them.

        Args:
            others: The runs, each begun when it is its turn.
            batches: Of validation data.
            kept: The outer step's own run, at its end: the checkpoint.

        Returns:
            Theirs; None for each that diverged.

        Raises:
            Interrupted: When asked to stop; they are taken anew after a resume.
        """
        planned, before = self._planned()
        self.save(kept)
        found: list[Hypergradients | None] = []
        for inner in others:
            there = before + planned.cost * (len(found) + 1)

            def tick(
                back: int, inner: ForwardRun | ReverseRun = inner, there: float = there
            ) -> None:
                on_way = planned.gradients * inner.step + planned.backward * back
                self.watch.step(inner, there + on_way)
                if self._interrupt.requested:
                    raise Interrupted(self._interrupt.requested)

            for _ in steps(inner):
                tick(0)
            whole = inner.done and inner.is_finite()
            found.append(inner.hypergradients(batches, tick) if whole else None)
        return found

    def _stop_if_asked(self, inner: InnerRun) -> None:
        if self._interrupt.requested:
            self.save(inner)
            raise Interrupted(self._interrupt.requested)

    def _planned(self) -> tuple[PlannedRun, float]:
        """The inner run under way as it was planned, and what the plan costs before it."""
        now = self.progress
        planned = next(
            run
            for run in self._plan.runs
            if (run.method, run.outer_step) == (now.method, now.outer_step)
        )
        before = now.seed_index * self._plan.cost
        return planned, before + self._plan.cost_before(now.method, now.outer_step)

    def _write_row(self, inner: InnerRun, validation: Images | None) -> None:
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
            **self._values(inner),
            "seconds": round(now.seconds, 3),
        }
        self.log.append("inner", [row])
        if isinstance(inner, HypergradientDescentRun):
            self._write_history(inner)
        now.seen = seen
        self.watch.row(row)

    def _values(self, inner: InnerRun) -> dict[str, float | None]:
        """What the last step used, by name: the default where nothing is set, no vectors."""
        values, defaults = inner.values, inner.problem.optimizer.rule.defaults
        found = {}
        for name in logged_names(self.config):
            value = values.get(name, defaults.get(name))
            found[name] = None if isinstance(value, tuple) else value
        return found

    def _write_history(self, inner: HypergradientDescentRun) -> None:
        self.log.append("hd", ({"seed": self.seed, **row} for row in inner.take_history()))

    def _evaluate(self, inner: InnerRun, validation: Images | None) -> Evaluation:
        def on(images: Images) -> tuple[float, float]:
            batches = in_batches(images, EVALUATION_BATCH)
            return inner.problem.model.evaluate(inner.state.theta, inner.state.buffers, batches)

        final = validation is None and inner.done
        looks = self.config.test_curves or final
        test_loss, test_accuracy = on(self._data.test) if looks else (None, None)
        if validation is None:
            return Evaluation(None, None, test_loss, test_accuracy)
        return Evaluation(*on(validation), test_loss, test_accuracy)

    def announce(self) -> None:
        """Bring `summary.json` and `schedule.json` up to date."""
        now = self.progress
        going = now.seed_index < len(self.config.seeds)
        fraction = (now.seed_index + (self._share() if going else 0.0)) / len(self.config.seeds)
        self.log.run.update_summary(
            {
                "progress": {"phase": now.method if going else "finished", "fraction": fraction},
                "results": now.results,
                "spent": now.spent,
                **({} if now.strategy is None else {"hvp": now.strategy}),
            }
        )
        schedules = list(now.schedules)
        if now.method == "ours" and now.outer.best is not None:  # the seed under way
            schedules.append({"seed": self.seed, **best_as_dict(now.outer.best)})
        self.log.run.write_json("schedule.json", {"schedules": schedules})

    def _share(self) -> float:
        """How much of the seed under way is done: of its plan, or of its budget."""
        now, allowance = self.progress, self.config.allowance
        share = self._plan.cost_before(now.method, now.outer_step) / self._plan.cost
        if allowance is None or now.method != "ours":
            return share
        return min(max(share, allowance.of(now.outer.spent) / allowance.amount), 1.0)

    def save(self, inner: InnerRun | None) -> None:
        """Write a checkpoint, in the middle of an inner run or between two."""
        now = self.progress
        tensors: dict[str, Tensor] = {}
        now.inner = None
        if inner is not None:
            if isinstance(inner, HypergradientDescentRun):
                self._write_history(inner)
            tensors, now.inner = inner.snapshot()
        # Batches need no generator state; a network with dropout draws from the global one.
        tensors = {**tensors, "random_state": torch.get_rng_state()}
        if torch.cuda.is_available():
            tensors["cuda_random_state"] = torch.cuda.get_rng_state()
        if now.hd_schedule is not None:
            values = list(now.hd_schedule.values())
            tensors["hd_schedule"] = torch.tensor(values, dtype=torch.float64)
        self.log.save(tensors, {"progress": json.loads(json.dumps(now.as_dict()))})
