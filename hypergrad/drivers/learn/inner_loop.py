"""The inner loop as a driver runs it: rows, checkpoints, interruptions, progress."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from hypergrad.config.schema import RunConfig
from hypergrad.core.functional_model import Batch
from hypergrad.core.schedule import Schedule
from hypergrad.data import Dataset, Images
from hypergrad.drivers.cost import Plan, PlannedRun
from hypergrad.drivers.inner_optimizer import learned_of_rule, logged_names
from hypergrad.drivers.learn.state import Progress
from hypergrad.runs.interrupt import Interrupt, Interrupted
from hypergrad.runs.run_log import RunLog
from hypergrad.training.hypergradient_descent import HypergradientDescentRun
from hypergrad.training.inner_loop import InnerLoop, evaluated
from hypergrad.training.inner_run import InnerRun
from hypergrad.training.outer_loop import Evaluation
from hypergrad.training.outer_state import best_as_dict
from hypergrad.training.random_state import random_state, set_random_state

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


class RecordedInnerLoop(InnerLoop):
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
        super().__init__()
        self.config = config
        self.rows_per_epoch = config.rows_per_epoch
        self.checkpoint_seconds = config.checkpoint_seconds
        self.log = log
        self.watch = watch
        self.progress = Progress(method=plan.runs[0].method)
        self._data = data
        self._plan = plan
        self._interrupt = interrupt
        self._tensors: dict[str, Tensor] | None = None
        self._stepped = time.monotonic()

    @property
    def seed(self) -> int:
        """The seed of the repeat under way."""
        return self.config.seeds[self.progress.seed_index]

    @property
    def before(self) -> list[dict]:
        """What trajectories came to before the one that is going to be gone on with."""
        return (self.progress.inner or {}).get("before", []) if self._tensors is not None else []

    def resume(self) -> None:
        """Go to where the newest whole checkpoint is; to the start if there is none."""
        checkpoint, remarks = self.log.load()
        for remark in remarks:
            self.watch.note(remark)
        if checkpoint is None:
            return
        tensors = checkpoint.tensors
        try:
            self.progress = Progress.from_dict(checkpoint.state["progress"])
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"the checkpoint keeps something else than this version does ({error!r}): go on "
                "with the version that wrote it"
            ) from error
        if "hd_schedule" in tensors:
            names = learned_of_rule(self.config)
            values = tensors["hd_schedule"].tolist()
            self.progress.hd_schedule = Schedule(dict(zip(names, values, strict=True)))
        if self.progress.inner is not None:
            self._tensors = tensors
        set_random_state(tensors)

    # What happens between two steps

    def begin(self, inner: InnerRun) -> None:
        """Go on from the checkpoint that was resumed, if it was taken in this run."""
        now = self.progress
        goes_on = self._tensors is not None
        if self._tensors is not None and now.inner is not None:
            self._restore(inner, self._tensors, now.inner)
            self._seen = now.seen
        else:
            now.seconds, now.seen = 0.0, None
        self._tensors = None
        self._began = time.monotonic() - now.seconds
        if goes_on or not inner.before:
            self.watch.begin(self.seed, now.method, now.outer_step, inner.horizon)
        self._plan_of_run = self._planned()

    def _restore(self, inner: InnerRun, tensors: dict[str, Tensor], state: dict) -> None:
        """Put an inner run where a checkpoint was taken.

        Raises:
            ValueError: For a checkpoint of another network, or of other hyperparameters.
        """
        fresh = inner.snapshot()[0]["theta"]
        try:
            if tensors["theta"].shape != fresh.shape or state["step"] > inner.horizon:
                raise TypeError(f"{len(tensors['theta'])} weights at step {state['step']}")
            inner.restore(tensors, state)
        except (RuntimeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"the checkpoint does not fit these settings ({' '.join(str(error).split())}): "
                "fork with the network, batches and hyperparameters that it was taken with"
            ) from error

    def after_step(self, inner: InnerRun, back: int = 0, others: int = 0) -> None:
        """Tell how far the run has come."""
        now = time.monotonic()
        self._interrupt.step_seconds, self._stepped = now - self._stepped, now
        planned, before = self._plan_of_run
        if inner.before or not (back or others):
            self.progress.seconds = self.seconds
        on_way = planned.gradients * inner.step + planned.backward * back
        self.watch.step(inner, before + planned.cost * others + on_way)

    def stop_if_asked(self) -> None:
        """Raise `Interrupted` if a signal asked for it."""
        if self._interrupt.requested:
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

    def look(
        self, inner: InnerRun, validation: Images | Sequence[Batch] | None
    ) -> Evaluation | None:
        """Evaluate, and write a row of it; of further trajectories only the end is evaluated."""
        assert validation is None or isinstance(validation, Images), "data of a run are images"
        now = self.progress
        if inner.before:
            now.seen = self._evaluate(inner, validation) if inner.done else None
            return now.seen
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
        return seen

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
        final = validation is None and inner.done
        looks = self.config.test_curves or final
        test_loss, test_accuracy = evaluated(inner, self._data.test) if looks else (None, None)
        if validation is None:
            return Evaluation(None, None, test_loss, test_accuracy)
        return Evaluation(*evaluated(inner, validation), test_loss, test_accuracy)

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
        tensors = {**tensors, **random_state()}
        if now.hd_schedule is not None:
            values = list(now.hd_schedule.values())
            tensors["hd_schedule"] = torch.tensor(values, dtype=torch.float64)
        self.log.save(tensors, {"progress": json.loads(json.dumps(now.as_dict()))})
