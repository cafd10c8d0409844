"""Several runs of hypergradient descent at once, each with an outer learning rate of its own.

As in any ensemble all members start from the same weights and see the same minibatches, and one
batched evaluation serves all of them. The values that move are kept on the device, so that no step
waits for it.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor
from torch.func import vmap

from hypergrad.core.double_precision import widest
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer
from hypergrad.core.rules import State
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import InnerState, add_scores
from hypergrad.data import Batches
from hypergrad.training.batched_layers import batched_layers
from hypergrad.training.ensemble import JointRun, joint_gradients
from hypergrad.training.graphed_step import Ready, Replay
from hypergrad.training.hypergradient_descent import bind_online
from hypergrad.training.inner_problem import InnerProblem

__all__ = ["JointDescentRun"]

RATES, VALUES = "outer_rates", "online"  # names of what the steps find beside a minibatch


class JointDescentRun(JointRun):
    """`K` runs of hypergradient descent, each as it is alone up to rounding.

    Args:
        problem: What all members train.
        validation: Validation data, one minibatch a step, the same for all.
        outer_rates: One a member.
        clip: Limit on each hypergradient.
        learned: Whether each value of the rule moves, by name; the others stay where they start.
        starts: Where the values of each member begin; zero, of all that are not named.
        replay: Takes the steps on tensors of its own, which the run before it leaves to this one.

    Raises:
        ValueError: As of a run alone, and as of all ensembles.
    """

    def __init__(
        self,
        problem: InnerProblem,
        validation: Batches,
        *,
        outer_rates: Sequence[float],
        clip: float,
        learned: Mapping[str, bool],
        starts: Sequence[Mapping[str, float]] | None = None,
        replay: Replay | None = None,
    ) -> None:
        size = len(outer_rates)
        super().__init__(problem, size, replay)
        begins = [
            {name: float(start.get(name, 0.0)) for name in learned}
            for start in (starts or [MappingProxyType({})] * size)
        ]
        if len(begins) != size:
            raise ValueError(f"{len(begins)} starts for {size} outer learning rates: give each one")
        self._optimizer = [bind_online(problem.model, problem.optimizer, b) for b in begins][0]
        self._validation = validation
        self._clip = clip
        self._learned = dict(learned)
        numbers = partial(
            torch.tensor, dtype=widest(problem.theta.device), device=problem.theta.device
        )
        # What moves, (K, n), and by how much: in double precision, as the numbers of one run are.
        self._online = numbers([list(begin.values()) for begin in begins])
        self._rates = numbers(
            [[rate * moves for moves in learned.values()] for rate in outer_rates]
        )
        self._trace: list[Tensor] = []  # (K, n) that each step used
        self._place()

    @property
    def schedules(self) -> list[Schedule]:
        """The values that each member's steps so far used: one of each a step."""
        return [
            Schedule({name: tuple(own) for name, own in zip(self._learned, member, strict=True)})
            for member in self._used.permute(1, 2, 0).tolist()
        ]

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that `restore` needs."""
        tensors, scalars = super().snapshot()
        return tensors | {"online": self._online.clone(), "trace": self._used}, scalars

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot."""
        device = self._online.device
        self._online = tensors["online"].to(device, copy=True)
        self._trace = list(tensors["trace"].to(device, copy=True))
        super().restore(tensors, scalars)

    def advance(self) -> None:
        """Take one inner step of every member, and one outer step on its values."""
        step, batch = self._begin_step()
        self._trace.append(self._online.clone())
        validation, given = self._validation.at(step), {RATES: self._rates}
        take = partial(
            _step,
            self.problem.model,
            self._optimizer,
            clip=self._clip,
            learned=self._learned,
        )
        if self._replay is None:
            ready = Ready(self.state, batch, {**given, VALUES: self._online}, step)
            self.state, losses, scores = take(validation, ready)
            add_scores(self._sums, losses, scores, batch)
            return
        key = "descent", self._clip, tuple(self._learned.items())
        fixed = self._replay.fix_batch("validation", validation)
        given[VALUES] = self._online
        self._replay.take(key, batch, given, step, partial(take, fixed))

    @property
    def _bound(self) -> BoundOptimizer:
        return self._optimizer

    @property
    def _used(self) -> Tensor:
        """`(t, K, n)`: what each of the steps so far used."""
        return (
            torch.stack(self._trace)
            if self._trace
            else self._online.new_zeros(0, *self._online.shape)
        )

    def _place(self) -> None:
        super()._place()
        if self._replay is not None:
            self._online = self._replay.fix(f"value.{VALUES}", self._online)


def _step(
    model: FlatModel,
    optimizer: BoundOptimizer,
    validation: Batch,
    ready: Ready,
    *,
    clip: float,
    learned: Mapping[str, bool],
) -> tuple[InnerState, Tensor, Tensor]:
    """Take one inner step of all members, and change their values in place."""
    state, online, names = ready.state, ready.given[VALUES], list(learned)
    each = {name: online[:, n, None].to(state.theta) for n, name in enumerate(names)}
    used = optimizer.step_values(each, state.theta)
    none = state.theta.new_zeros(len(online), 0)
    g, losses, scores = joint_gradients(model, optimizer, state, ready.batch, none)
    g = optimizer.transform(g)
    after = State(*optimizer.rule.update(g, *state.optimized, used.rule, ready.step))
    g_val = _validation_gradients(model, after.theta, validation, state.buffers)
    targets = [optimizer.by_name[name].target for name in names]
    found = [
        optimizer.rule.ahead(
            g_val[k],
            State(state.theta[k], tuple(slot[k] for slot in state.slots)),
            g[k],
            State(after.theta[k], tuple(slot[k] for slot in after.slots)),
            {
                name: value[k, 0] if isinstance(value, Tensor) else value
                for name, value in used.rule.items()
            },
            ready.step,
            targets,
        )
        for k in range(len(online))
    ]
    moves = torch.stack(found).clamp(-clip, clip).to(online)
    # What does not move stays, though its hypergradient may not be a number.
    online -= torch.where(ready.given[RATES] > 0, ready.given[RATES] * moves, 0.0)
    return InnerState(after.theta, after.slots, state.buffers), losses, scores


def _validation_gradients(
    model: FlatModel, theta: Tensor, batch: Batch, buffers: dict[str, Tensor]
) -> Tensor:
    """`(K, D)` gradients of the members' validation losses."""
    point = theta.detach().requires_grad_()
    with batched_layers(model, theta.device):
        losses = vmap(model.validation_loss, in_dims=(0, None, 0))(point, batch, buffers)
    return torch.autograd.grad(losses.sum(), point)[0]
