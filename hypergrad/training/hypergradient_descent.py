"""An inner run of hypergradient descent, one step at a time."""

from collections.abc import Mapping

import torch
from torch import Tensor

from hypergrad.core.schedule import KINDS, Schedule, StepValues
from hypergrad.core.sgd import add_scores
from hypergrad.data import Minibatches
from hypergrad.differentiation.one_step import hypergradient_descent_step
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import InnerRun

__all__ = ["HypergradientDescentRun"]


class HypergradientDescentRun(InnerRun):
    """Hypergradient descent from all-zero values; it remembers what each step used and found.

    Args:
        problem: What is trained.
        validation: Validation data, one minibatch a step.
        outer_learning_rate: Of the steps on the values themselves.
        clip: Limit on each hypergradient.
        learned: Which of learning rate, momentum and weight decay move.
    """

    def __init__(
        self,
        problem: InnerProblem,
        validation: Minibatches,
        *,
        outer_learning_rate: float,
        clip: float,
        learned: tuple[bool, bool, bool] = (True, True, True),
    ) -> None:
        super().__init__(problem)
        self._validation = validation
        self._outer_learning_rate = outer_learning_rate
        self._clip = clip
        self._learned = learned
        self._used = self._next = (0.0, 0.0, 0.0)
        self._trace: list[tuple[float, float, float]] = []  # what each step used
        self._history: list[dict[str, float | int]] = []

    @property
    def values(self) -> StepValues:
        """The values that the last step used."""
        return StepValues(*self._used, indices=(0, 0, 0))

    @property
    def schedule(self) -> Schedule:
        """What the steps so far used: one value of each kind a step."""
        return Schedule(*zip(*self._trace, strict=True))

    def take_history(self) -> list[dict[str, float | int]]:
        """Return rows of `hd.csv` (without the seed) since the last call."""
        rows, self._history = self._history, []
        return rows

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that `restore` needs; take the history first."""
        assert not self._history
        tensors, scalars = super().snapshot()
        tensors["trace"] = torch.tensor(self._trace, dtype=torch.float64).reshape(-1, 3)
        return tensors, scalars | {"used": list(self._used), "next": list(self._next)}

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot."""
        super().restore(tensors, scalars)
        self._trace = [_three(row) for row in tensors["trace"].tolist()]
        self._used, self._next = (_three(scalars[name]) for name in ("used", "next"))

    def advance(self) -> None:
        """Take one inner step, and one outer step on the values."""
        step, batch = self._begin_step()
        taken = hypergradient_descent_step(
            self.problem.model,
            self.state,
            self._next,
            batch,
            self._validation.at(step),
            learning_rate=self._outer_learning_rate,
            clip=self._clip,
            clip_gradient=self.problem.clip_gradient,
            learned=self._learned,
        )
        self._used, self._next = self._next, taken.values
        self._trace.append(self._used)
        row: dict[str, float | int] = {
            "step": step,
            "epoch": step / self.problem.minibatches.steps_per_epoch,
        }
        row |= dict(zip(KINDS, self._used, strict=True))
        row |= {
            f"{name}_hypergradient": h for name, h in zip(KINDS, taken.hypergradients, strict=True)
        }
        self._history.append(row)
        self.state = taken.state
        add_scores(self._sums, taken.loss, taken.predictions, batch[1])


def _three(values: object) -> tuple[float, float, float]:
    assert isinstance(values, list)
    a, b, c = values
    return float(a), float(b), float(c)
