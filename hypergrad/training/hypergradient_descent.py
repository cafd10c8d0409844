"""An inner run of hypergradient descent, one step at a time."""

from collections.abc import Mapping

from torch import Tensor

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.schedule import KINDS, StepValues
from hypergrad.data import Minibatches
from hypergrad.differentiation.one_step import hypergradient_descent_step
from hypergrad.training.inner_run import InnerRun

__all__ = ["HypergradientDescentRun"]


class HypergradientDescentRun(InnerRun):
    """Hypergradient descent from all-zero values; `history` keeps what each step used and found.

    Args:
        model: The network and its loss.
        theta: `(D,)` initial parameters.
        minibatches: Training data.
        epochs: The horizon, in epochs.
        validation: Validation data, one minibatch a step.
        outer_learning_rate: Of the steps on the values themselves.
        clip: Limit on each hypergradient.
        clip_gradient: `c_g`, or None.
        learned: Which of learning rate, momentum and weight decay move.
    """

    def __init__(
        self,
        model: FlatModel,
        theta: Tensor,
        minibatches: Minibatches,
        epochs: int,
        validation: Minibatches,
        *,
        outer_learning_rate: float,
        clip: float,
        clip_gradient: float | None,
        learned: tuple[bool, bool, bool] = (True, True, True),
    ) -> None:
        super().__init__(model, theta, minibatches, epochs)
        self._validation = validation
        self._outer_learning_rate = outer_learning_rate
        self._clip = clip
        self._clip_gradient = clip_gradient
        self._learned = learned
        self._used = self._next = (0.0, 0.0, 0.0)
        self._history: list[dict[str, float | int]] = []

    @property
    def values(self) -> StepValues:
        """The values that the last step used."""
        return StepValues(*self._used, indices=(0, 0, 0))

    def take_history(self) -> list[dict[str, float | int]]:
        """Return rows of `hd.csv` (without the seed) since the last call."""
        rows, self._history = self._history, []
        return rows

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that `restore` needs; take the history first."""
        assert not self._history
        tensors, scalars = super().snapshot()
        return tensors, scalars | {"used": list(self._used), "next": list(self._next)}

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot."""
        super().restore(tensors, scalars)
        self._used, self._next = (_three(scalars[name]) for name in ("used", "next"))

    def _take(self, batch: Batch) -> tuple[Tensor, Tensor]:
        taken = hypergradient_descent_step(
            self.model,
            self.state,
            self._next,
            batch,
            self._validation.at(self.step),
            learning_rate=self._outer_learning_rate,
            clip=self._clip,
            clip_gradient=self._clip_gradient,
            learned=self._learned,
        )
        self._used, self._next = self._next, taken.values
        row: dict[str, float | int] = {
            "step": self.step,
            "epoch": self.step / self.minibatches.steps_per_epoch,
        }
        row |= dict(zip(KINDS, self._used, strict=True))
        row |= {
            f"{name}_hypergradient": h for name, h in zip(KINDS, taken.hypergradients, strict=True)
        }
        self._history.append(row)
        self.state = taken.state
        return taken.loss, taken.predictions


def _three(values: object) -> tuple[float, float, float]:
    assert isinstance(values, list)
    a, b, c = values
    return float(a), float(b), float(c)
