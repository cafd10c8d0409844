"""Inner runs, one step at a time, so that a caller can watch, pause, save and resume them.

`ScheduledRun` only trains; those of `differentiated_run` find the hypergradients of their schedule
too, and that of `hypergradient_descent` updates its values online. Everything random is a pure
function of a key and the step, so a run's position is a number.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from hypergrad.core.batches import example_count
from hypergrad.core.double_precision import widest
from hypergrad.core.functional_model import Batch
from hypergrad.core.schedule import Schedule, Value
from hypergrad.core.training_step import InnerState, add_scores, train_step
from hypergrad.differentiation.loss_check import check_loss
from hypergrad.training.graphed_step import Replay
from hypergrad.training.inner_problem import InnerProblem

__all__ = ["InnerRun", "ScheduledRun", "steps"]


class InnerRun:
    """What all kinds of inner run share: position, weights, and running sums.

    Args:
        problem: What is trained.

    Attributes:
        problem: The same.
        step: Inner steps taken.
        state: Weights, the optimiser's slots and buffers after them.
        before: What other trajectories of its schedule came to before it began, for whoever goes on
            from its snapshot: as JSON keeps it.
    """

    def __init__(self, problem: InnerProblem) -> None:
        self.problem = problem
        self.step = 0
        self.before: tuple[Mapping[str, object], ...] = ()
        self.state = InnerState.start(
            problem.theta, len(problem.optimizer.rule.slots), problem.model.buffers()
        )
        self._sums = torch.zeros(2, dtype=widest(problem.theta.device), device=problem.theta.device)
        self._count = 0

    @property
    def horizon(self) -> int:
        """Inner steps from the start to the end."""
        return self.problem.horizon

    @property
    def epoch(self) -> float:
        """Epochs completed."""
        return self.step / self.problem.minibatches.steps_per_epoch

    @property
    def done(self) -> bool:
        """Whether the horizon is reached."""
        return self.step >= self.horizon

    @property
    def values(self) -> Mapping[str, Value]:
        """The values that the last step used, by name."""
        raise NotImplementedError

    def advance(self) -> None:
        """Take one inner step: a new state, and its scores added to the running sums."""
        raise NotImplementedError

    def take_means(self) -> tuple[float, float]:
        """Return mean training loss and accuracy since the last call, and start anew."""
        loss, accuracy = self._take_means().tolist()
        return loss, accuracy

    def take_losses(self) -> list[float]:
        """Return the mean training loss of every model in the run, as `take_means` does of one."""
        return self._take_means()[..., 0].reshape(-1).tolist()

    def is_finite(self) -> bool:
        """Whether every parameter is a finite number."""
        return bool(self.state.theta.isfinite().all())

    def came_through(self) -> bool:
        """Whether it reached its horizon with finite weights."""
        return self.done and self.is_finite()

    def is_lost(self) -> bool:
        """Whether no model in the run has finite weights any more."""
        return not bool(self.state.theta.isfinite().all(dim=-1).any())

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that `restore` needs: tensors, and values that fit JSON."""
        theta, slots, buffers = self.state
        tensors = {"theta": theta, "sums": self._sums}
        tensors |= dict(zip(self._slot_names, slots, strict=True))
        tensors |= {f"buffer.{name}": value for name, value in buffers.items()}
        copies = {name: value.clone() for name, value in tensors.items()}
        scalars: dict[str, object] = {"step": self.step, "count": self._count}
        return copies, scalars | ({"before": list(self.before)} if self.before else {})

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot, on the device of the parameters that the run started with."""
        device = self.state.theta.device
        moved = {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}
        buffers = {
            name.removeprefix("buffer."): tensor
            for name, tensor in moved.items()
            if name.startswith("buffer.")
        }
        slots = tuple(moved[name] for name in self._slot_names)
        self.state = InnerState(moved["theta"], slots, buffers)
        self._sums = moved["sums"]
        step, count = scalars["step"], scalars["count"]
        assert isinstance(step, int)
        assert isinstance(count, int)
        self.step, self._count = step, count
        before = scalars.get("before", ())
        assert isinstance(before, list | tuple)
        self.before = tuple(before)

    @property
    def _slot_names(self) -> list[str]:
        return [f"slot.{name}" for name in self.problem.optimizer.rule.slots]

    def _begin_step(self) -> tuple[int, Batch]:
        """Return the 0-based step that is due and its minibatch; it counts as taken from here."""
        step, batch = self.step, self.problem.minibatches.at(self.step)
        self._count += example_count(batch)
        self.step += 1
        return step, batch

    def _take_means(self) -> Tensor:
        means = self._sums / max(self._count, 1)
        self._sums.zero_()
        self._count = 0
        return means


def steps(inner: InnerRun, rows_per_epoch: int = 1) -> Iterator[bool]:
    """Take the inner steps that are left, until the horizon or until all weights are lost.

    Args:
        inner: The run, from wherever it is.
        rows_per_epoch: How often to look whether weights are still finite numbers: an evaluation is
            due at the same moments. 0: never, so that it always comes to the horizon.

    Yields:
        After every step, whether an evaluation is due.
    """
    per_epoch = inner.problem.minibatches.steps_per_epoch

    def is_due() -> bool:
        return (
            inner.step * rows_per_epoch // per_epoch
            > (inner.step - 1) * rows_per_epoch // per_epoch
        )

    while not inner.done and not (inner.step and is_due() and inner.is_lost()):
        inner.advance()
        yield is_due()


class ScheduledRun(InnerRun):
    """Train with a given schedule.

    Args:
        problem: What is trained.
        schedule: The values; their windows stretch to the horizon.
        replay: Takes the steps on tensors of its own, which the run before it leaves to this one.
    """

    def __init__(
        self, problem: InnerProblem, schedule: Schedule, replay: Replay | None = None
    ) -> None:
        super().__init__(problem)
        self._schedule = schedule
        self._optimizer = problem.optimizer.bind(problem.model, schedule)
        if self._optimizer.loss_size:
            batch = problem.minibatches.at(0)
            check_loss(problem.model, self._optimizer, schedule, problem.theta, batch)
        self._replay = replay
        self._place()

    @property
    def values(self) -> Mapping[str, Value]:
        """The values that the last step used, by name."""
        return self._optimizer.given(self._schedule, max(self.step - 1, 0), self.horizon)

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot."""
        super().restore(tensors, scalars)
        self._place()

    def _place(self) -> None:
        """Move to the tensors that steps are replayed on, if they are."""
        if self._replay is not None:
            self.state, self._sums = self._replay.place(self.state, self._sums, self._optimizer)

    def advance(self) -> None:
        """Take one inner step."""
        step, batch = self._begin_step()
        given = self._optimizer.given(self._schedule, step, self.horizon)
        if self._replay is not None:
            self._replay.train(batch, given, step)
            return
        values = self._optimizer.step_values(given, self.state.theta)
        self.state, loss, score = train_step(
            self.problem.model, self.state, batch, self._optimizer, values, step
        )
        add_scores(self._sums, loss, score, batch)
