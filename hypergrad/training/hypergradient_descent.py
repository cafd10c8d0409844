"""An inner run of hypergradient descent, one step at a time."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer, InnerOptimizer
from hypergrad.core.rules import Rule
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import add_scores
from hypergrad.data import Batches
from hypergrad.differentiation.one_step import hypergradient_descent_step
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import InnerRun

__all__ = ["HypergradientDescentRun", "bind_online"]


class HypergradientDescentRun(InnerRun):
    """Hypergradient descent; it remembers what each step used and found.

    Args:
        problem: What is trained.
        validation: Validation data, one minibatch a step.
        outer_learning_rate: Of the steps on the values themselves.
        clip: Limit on each hypergradient.
        learned: Whether each value of the rule moves, by name; the others stay where they start.
        start: Where each begins; zero, of all that are not named.

    Raises:
        ValueError: For values of some of the parameters, or of the loss; for a rule that is not
            finite where it begins.
    """

    def __init__(
        self,
        problem: InnerProblem,
        validation: Batches,
        *,
        outer_learning_rate: float,
        clip: float,
        learned: Mapping[str, bool],
        start: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        super().__init__(problem)
        begin = {name: float(start.get(name, 0.0)) for name in learned}
        self._optimizer = bind_online(problem.model, problem.optimizer, begin)
        self._validation = validation
        self._outer_learning_rate = outer_learning_rate
        self._clip = clip
        self._learned = dict(learned)
        self._used = self._next = begin
        self._trace: list[tuple[float, ...]] = []  # what each step used
        self._history: list[dict[str, float | int]] = []

    @property
    def values(self) -> dict[str, float]:
        """The values that the last step used."""
        return self._used

    @property
    def schedule(self) -> Schedule:
        """What the steps so far used: one value of each a step."""
        return Schedule(dict(zip(self._learned, zip(*self._trace, strict=True), strict=True)))

    def take_history(self) -> list[dict[str, float | int]]:
        """Return rows of `hd.csv` (without the seed) since the last call."""
        rows, self._history = self._history, []
        return rows

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that `restore` needs; take the history first."""
        assert not self._history
        tensors, scalars = super().snapshot()
        tensors["trace"] = torch.tensor(self._trace, dtype=torch.float64).reshape(
            -1, len(self._learned)
        )
        return tensors, scalars | {"used": self._used, "next": self._next}

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot."""
        super().restore(tensors, scalars)
        self._trace = [tuple(row) for row in tensors["trace"].tolist()]
        used, coming = scalars["used"], scalars["next"]
        assert isinstance(used, dict)
        assert isinstance(coming, dict)
        self._used, self._next = used, coming

    def advance(self) -> None:
        """Take one inner step, and one outer step on the values."""
        step, batch = self._begin_step()
        taken = hypergradient_descent_step(
            self.problem.model,
            self.state,
            self._next,
            step,
            batch,
            self._validation.at(step),
            self._optimizer,
            learning_rate=self._outer_learning_rate,
            clip=self._clip,
            learned=self._learned,
        )
        self._used, self._next = self._next, taken.values
        self._trace.append(tuple(self._used.values()))
        row: dict[str, float | int] = {
            "step": step,
            "epoch": step / self.problem.minibatches.steps_per_epoch,
        }
        row |= self._used
        row |= {f"{name}_hypergradient": h for name, h in taken.hypergradients.items()}
        self._history.append(row)
        self.state = taken.state
        add_scores(self._sums, taken.loss, taken.score, batch)


def bind_online(
    model: FlatModel, optimizer: InnerOptimizer, start: Mapping[str, float]
) -> BoundOptimizer:
    """Return the optimiser whose values hypergradient descent moves.

    Args:
        model: The network.
        optimizer: Gives the rule and what is done to its gradient; what it declares does not
            matter, as all values that are named in `start` are set online.
        start: Where each value begins, by name.

    Raises:
        ValueError: For a value that is not the rule's, or a rule that is not finite at the start.
    """
    bare = InnerOptimizer(optimizer.rule, (), optimizer.transform)
    bound = bare.bind(model, Schedule({name: (value,) for name, value in start.items()}))
    if bound.loss_size:
        raise ValueError(
            f"hypergradient descent moves the values of {bare.rule.name} alone, which has no "
            f"{', '.join(bound.loss_entries)}"
        )
    _check_start(bare.rule, start)
    return bound


def _check_start(rule: Rule, start: Mapping[str, float]) -> None:
    """Refuse a rule that makes no numbers of the values where this begins."""
    one = torch.ones(1, dtype=torch.float64)
    values = {**dict.fromkeys(rule.defaults, 0.0), **start}
    moved, _ = rule.update(one, one, (one,) * len(rule.slots), values, 0)
    if not bool(moved.isfinite().all()):
        begins = ", ".join(f"{name}={value:g}" for name, value in values.items())
        raise ValueError(
            f"hypergradient descent begins with {begins}, where {rule.name} is not finite: use sgd"
        )
