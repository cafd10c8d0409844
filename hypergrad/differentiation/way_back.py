"""The way back through a training run, a step at a time, so that it can be paused, saved, resumed.

Truncation freezes a hyperparameter through the first steps of each of its windows: nothing that
happens there changes its tangents, so its adjoints pass such a step as they are. Hyperparameters
that are frozen at the same steps share their adjoints. Going back, all do until the first step
that some are frozen at and others are not; from there on each of the two has adjoints of its own,
and a Hessian product more.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from hypergrad.core.basis import Vector, is_truncated
from hypergrad.core.batches import example_count
from hypergrad.core.double_precision import widened, widest
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer, StepValues
from hypergrad.core.rules import State
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import InnerState
from hypergrad.differentiation.checkpointing import Trajectory
from hypergrad.differentiation.per_step import PerStep
from hypergrad.differentiation.result import validation_gradient
from hypergrad.differentiation.reverse_step import Graph, reverse_step, taken_step

__all__ = ["WayBack"]


class WayBack:
    """Go back through an inner run.

    Args:
        model: The network and its loss.
        trajectory: The states it went through.
        end: Where it ended.
        batch_at: Maps a 0-based inner step to its minibatch.
        validation: Batches of validation data.
        optimizer: The inner optimiser.
        schedule: The values it used.
        horizon: `T`, inner steps.
        fused: Whether the steps took their gradients as `fused` does.
        graphs: Those of steps that were kept, by step; given away.
        validation_chunks: `K`, into how many chunks the validation data is divided.
        truncation: `tau` in [0, 1).
        clip_adjoints: Adjoints of the parameters that are longer than so many times the validation
            gradient are scaled down to that, with those of the slots; None: never.

    Raises:
        ValueError: Without validation data.

    Attributes:
        step: Inner steps that are still to go back through.
        gradients: Gradients taken so far.
        products: Hessian products so far.
    """

    def __init__(
        self,
        model: FlatModel,
        trajectory: Trajectory,
        end: InnerState,
        batch_at: Callable[[int], Batch],
        validation: Sequence[Batch],
        optimizer: BoundOptimizer,
        schedule: Schedule,
        horizon: int,
        *,
        fused: bool,
        graphs: dict[int, Graph] | None = None,
        validation_chunks: int = 1,
        truncation: float = 0.0,
        clip_adjoints: float | None = None,
    ) -> None:
        if not validation:
            raise ValueError("no validation data: give at least one batch")
        self._model, self._trajectory, self._end = model, trajectory, end
        self._batch_at, self._optimizer, self._schedule = batch_at, optimizer, schedule
        self._horizon, self._truncation, self._clip = horizon, truncation, clip_adjoints
        self._fused, self._graphs = fused, {} if graphs is None else graphs
        # While every learning rate is zero the weights stand still: nothing depends on the Hessian.
        self._curved = optimizer.can_move(schedule)
        chunks = _chunks(validation, validation_chunks)
        counts = [sum(map(example_count, chunk)) for chunk in chunks]
        self._shares = tuple(count / sum(counts) for count in counts)
        self._batches = tuple(len(chunk) for chunk in chunks)
        self.step = horizon
        self.gradients = self.products = self._differentiated = 0
        P = torch.stack([validation_gradient(model, end.theta, c, end.buffers) for c in chunks])
        learned = tuple(name for name in schedule if schedule[name])
        self._names = tuple(name for name in learned if not self._is_vector(name))
        self._groups = [learned]
        self._adjoints = State(P, tuple(torch.zeros_like(P) for _ in end.slots))
        self._found = P.new_zeros(len(chunks), horizon, len(self._names), dtype=widest(P.device))
        self._vectors = {
            name: P.new_zeros(len(chunks), len(schedule[name]), dtype=widest(P.device))
            for name in learned
            if self._is_vector(name)
        }
        self._lengths = torch.linalg.vector_norm(P, dim=1)
        self._sums = P.new_zeros(2, dtype=widest(P.device))  # shares that clips touched

    @property
    def done(self) -> bool:
        """Whether the start is reached."""
        return self.step == 0

    def advance(self) -> None:
        """Go back through one inner step.

        Raises:
            ValueError: If the last step, taken again, ends elsewhere.
        """
        step = self.step - 1
        before = self._trajectory.before(step, self._taken)
        if step == self._horizon - 1:
            _check_repeatable(self._taken(step, before.copied()), self._end)
        self._split_groups(step)
        active = [own for own in self._groups if not self._is_frozen(own[0], step)]
        if active:
            self._differentiate(step, before, active)
        self.step = step

    def per_step(self) -> PerStep:
        """Return the hypergradients of every step's values, at the start."""
        assert self.done, "hypergradients are known at the start"
        gradients, adjoints = (self._sums / max(self._differentiated, 1)).tolist()
        vectors = {name: sums.cpu().double() for name, sums in self._vectors.items()}
        return PerStep(
            self._names,
            self._found.cpu().double(),
            vectors,
            self._shares,
            self._batches,
            gradients,
            None if self._clip is None else adjoints,
        )

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that `restore` needs but the trajectory."""
        P, Q = self._adjoints
        tensors = {"theta": P, "found": self._found, "lengths": self._lengths, "sums": self._sums}
        tensors |= {f"slot.{i}": own for i, own in enumerate(Q)}
        tensors |= {f"vector.{name}": own for name, own in self._vectors.items()}
        scalars = {
            "step": self.step,
            "gradients": self.gradients,
            "products": self.products,
            "differentiated": self._differentiated,
            "groups": [list(own) for own in self._groups],
        }
        return {name: tensor.clone() for name, tensor in tensors.items()}, scalars

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping) -> None:
        """Continue from a snapshot."""
        device: torch.device = self._lengths.device
        own = {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}
        slots = tuple(own[f"slot.{i}"] for i in range(len(self._adjoints.slots)))
        self._adjoints = State(own["theta"], slots)
        self._found, self._lengths, self._sums = own["found"], own["lengths"], own["sums"]
        self._vectors = {name: own[f"vector.{name}"] for name in self._vectors}
        self.step, self.gradients = scalars["step"], scalars["gradients"]
        self.products, self._differentiated = scalars["products"], scalars["differentiated"]
        self._groups = [tuple(each) for each in scalars["groups"]]

    def _differentiate(self, step: int, before: InnerState, active: list[tuple[str, ...]]) -> None:
        chunks = len(self._batches)
        places = [self._groups.index(own) for own in active]
        rows = [row for place in places for row in range(place * chunks, (place + 1) * chunks)]
        whole = len(active) == len(self._groups)
        old = self._adjoints.tensors()
        P, *Q = old if whole else [own[rows] for own in old]
        given = self._model, before, self._batch_at(step), self._optimizer, self._values(step), step
        graph = self._graphs.pop(step, None)
        moved, found, share = reverse_step(
            *given, State(P, tuple(Q)), curved=self._curved, graph=graph
        )
        moved, clipped = self._clipped(moved, len(active))
        new = moved.tensors()
        if not whole:
            own = torch.tensor(rows, device=P.device)
            new = [o.index_copy(0, own, n) for o, n in zip(old, new, strict=True)]
        self._adjoints = State(new[0], tuple(new[1:]))
        for place, own in enumerate(active):
            for name in own:
                self._add(name, step, found[name][place * chunks : (place + 1) * chunks])
        self._sums += torch.stack([share, clipped])
        self._differentiated += 1
        self.gradients += 1
        self.products += len(rows) * self._curved

    def _add(self, name: str, step: int, own: Tensor) -> None:
        """Add the `(K,)` or `(K, size)` hypergradients of a step's value."""
        if name not in self._vectors:
            self._found[:, step, self._names.index(name)] = widened(own)
            return
        size = self._schedule.bases[name].size
        for function, weight in self._schedule.bases[name].weights(step, self._horizon):
            self._vectors[name][:, function * size : (function + 1) * size] += weight * own

    def _split_groups(self, step: int) -> None:
        """Give those that are frozen at a step adjoints of their own where others are not."""
        if not self._truncation:
            return
        groups: list[tuple[str, ...]] = []
        origin: list[int] = []
        for place, group in enumerate(self._groups):
            frozen = tuple(name for name in group if self._is_frozen(name, step))
            parts = [frozen, tuple(name for name in group if name not in frozen)]
            parts = [part for part in parts if part]
            groups.extend(parts)
            origin.extend([place] * len(parts))
        if len(groups) > len(self._groups):
            chunks = len(self._batches)
            rows = [row for place in origin for row in range(place * chunks, (place + 1) * chunks)]
            P, Q = self._adjoints
            self._adjoints = State(P[rows], tuple(own[rows] for own in Q))
            self._groups = groups

    def _clipped(self, adjoints: State, groups: int) -> tuple[State, Tensor]:
        """Scale down what has grown too long; the share of the rows that it was."""
        if self._clip is None:
            return adjoints, self._sums.new_zeros(())
        limits = self._clip * self._lengths.repeat(groups)
        lengths = torch.linalg.vector_norm(adjoints.theta, dim=1)
        scale = torch.where(lengths > limits, limits / lengths, 1.0)[:, None]
        P, *Q = (own * scale for own in adjoints.tensors())
        return State(P, tuple(Q)), widened(lengths > limits).mean()

    def _is_frozen(self, name: str, step: int) -> bool:
        return is_truncated(self._schedule.bases[name], step, self._horizon, self._truncation)

    def _is_vector(self, name: str) -> bool:
        basis = self._schedule.bases[name]
        return isinstance(basis, Vector) or basis.size > 1

    def _values(self, step: int) -> StepValues:
        given = self._optimizer.given(self._schedule, step, self._horizon)
        return self._optimizer.step_values(given, self._end.theta)

    def _taken(self, step: int, before: InnerState) -> InnerState:
        given = before, self._batch_at(step), self._optimizer, self._values(step), step
        return taken_step(self._model, *given, fused=self._fused).state


def _check_repeatable(again: InnerState, state: InnerState) -> None:
    """Refuse a training step with randomness of its own: what goes back is not what went there."""
    for first, second in zip(state.optimized.tensors(), again.optimized.tensors(), strict=True):
        difference = torch.linalg.vector_norm(second - first)
        # Far above what rounding on any device makes of one step, far below what dropout does.
        if difference > 1e-3 * torch.linalg.vector_norm(first):
            raise ValueError(
                "a training step taken again ends elsewhere, so the network draws random numbers "
                "(dropout?): use forward mode with strategy='loop'"
            )


def _chunks(validation: Sequence[Batch], count: int) -> list[Sequence[Batch]]:
    """Divide batches into `count` runs of (nearly) equal length; fewer if there are fewer."""
    count = min(count, len(validation))
    edges = [round(i * len(validation) / count) for i in range(count + 1)]
    return [validation[a:b] for a, b in zip(edges, edges[1:], strict=False)]
