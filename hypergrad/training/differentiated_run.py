"""Inner runs that find the hypergradients of their schedule, in forward or in reverse mode.

`ForwardRun` carries tangents along and is nearly done when the inner loop is. `ReverseRun` trains,
keeps states on its way, and goes back through all of them at the end.
"""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from hypergrad.core.functional_model import Batch
from hypergrad.core.schedule import Schedule, contributing_steps
from hypergrad.core.training_step import InnerState, add_scores
from hypergrad.differentiation.active_tangents import active_tangents_at
from hypergrad.differentiation.checkpointing import Trajectory, checkpoint_plan, state_bytes
from hypergrad.differentiation.diagnostics import Diagnostics
from hypergrad.differentiation.forward import project
from hypergrad.differentiation.options import ForwardOptions, settle
from hypergrad.differentiation.per_step import PerStep, gather
from hypergrad.differentiation.recursion import Tangents, advance
from hypergrad.differentiation.result import Hypergradients
from hypergrad.differentiation.reverse import ReverseOptions, check_reversible, graphs_from
from hypergrad.differentiation.reverse_step import Graph, can_fuse, taken_step
from hypergrad.differentiation.way_back import WayBack
from hypergrad.training.graphed_step import Replay
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import ScheduledRun

__all__ = ["ForwardRun", "ReverseRun", "differentiated"]


# Of a snapshot; one entry a value.
ROWS = ("Z", "diagnostics.clipped_products", "diagnostics.finite", "diagnostics.sizes")


def _ignore(steps: int) -> None: ...


class ForwardRun(ScheduledRun):
    """Train with a schedule and carry its tangents along.

    Args:
        problem: What is trained.
        schedule: The values.
        options: Clipping, truncation, strategy.
        replay: As for `ScheduledRun`.
    """

    def __init__(
        self,
        problem: InnerProblem,
        schedule: Schedule,
        options: ForwardOptions,
        replay: Replay | None = None,
    ) -> None:
        super().__init__(problem, schedule, replay)
        self.contributing = contributing_steps(schedule.bases, self.horizon, options.truncation)
        count = len(self.contributing)
        given = problem.model, problem.theta, problem.minibatches.at(0), count, options
        self._options = settle(*given, self._optimizer, schedule)
        slots = len(self._optimizer.rule.slots)
        self._tangents = Tangents.start(problem.theta, slots, count)
        self._place_tangents()

    def cost(self) -> tuple[int, int]:
        """Return gradients and Hessian products so far."""
        return self.step, sum(self._tangents.diagnostics.products)

    def hypergradients(
        self, validation: Sequence[Batch], tick: Callable[[int], None] = _ignore
    ) -> Hypergradients:
        """Return the hypergradients of the validation loss at the weights reached.

        Args:
            validation: Batches of validation data.
            tick: Not called: everything but the last product was done on the way.

        Returns:
            One averaged hypergradient a value, with its spread over the batches.
        """
        state = self.state
        if self._replay is not None:  # the next run steps on the same tensors
            state = InnerState(
                state.theta.clone(), tuple(s.clone() for s in state.slots), state.buffers
            ).copied()
        return project(self.problem.model, state, self._tangents, validation, self.contributing)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that `restore` needs: tensors, and values that fit JSON."""
        tensors, scalars = super().snapshot()
        Z, S, reached, diagnostics = self._tangents
        own = diagnostics.clipped_products, diagnostics.finite, diagnostics.sizes
        rows = Z, *own, *S
        names = *ROWS, *self._tangent_names
        tensors |= {name: own.clone() for name, own in zip(names, rows, strict=True)}
        tensors["diagnostics.clipped_gradients"] = diagnostics.clipped_gradients.clone()
        lists = {
            "reached": list(reached),
            "products": list(diagnostics.products),
            "used": list(diagnostics.used),
        }
        return tensors, scalars | lists

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot."""
        device = self.state.theta.device
        names = *ROWS, *self._tangent_names
        rows = {name: tensors[name].to(device, copy=True) for name in names}
        super().restore({name: it for name, it in tensors.items() if name not in rows}, scalars)
        reached, products, used = scalars["reached"], scalars["products"], scalars["used"]
        assert isinstance(reached, list)
        assert isinstance(products, list)
        assert isinstance(used, list)
        diagnostics = Diagnostics(
            self.step,
            tensors["diagnostics.clipped_gradients"].to(device),
            rows["diagnostics.clipped_products"],
            tuple(products),
            rows["diagnostics.finite"],
            rows["diagnostics.sizes"],
            tuple(used),
        )
        S = tuple(rows[name] for name in self._tangent_names)
        self._tangents = Tangents(rows["Z"], S, tuple(reached), diagnostics)
        self._place_tangents()

    @property
    def _tangent_names(self) -> list[str]:
        return [f"tangents.{name}" for name in self._slot_names]

    def _place_tangents(self) -> None:
        if self._replay is not None:
            self._tangents = self._replay.place_tangents(self._tangents)

    def advance(self) -> None:
        """Take one inner step, and carry the tangents through it."""
        step, batch = self._begin_step()
        horizon, options = self.horizon, self._options
        active = active_tangents_at(
            self._optimizer,
            self._schedule,
            step,
            horizon,
            options.truncation,
            self._tangents.reached,
        )
        given = self._optimizer.given(self._schedule, step, horizon)
        if self._replay is None:
            values = self._optimizer.step_values(given, self.state.theta)
            taken = batch, self._optimizer, values, step, active, options
            self.state, self._tangents, loss, score = advance(
                self.problem.model, self.state, self._tangents, *taken
            )
            add_scores(self._sums, loss, score, batch)
        else:
            assert self._replay.state is self.state, "another run has taken the tensors over"
            self._replay.forward(batch, given, step, active, options)
            used = {each.row for each in active.direct}
            diagnostics = self._tangents.diagnostics.counted(active.live, used)
            self._tangents = self._tangents._replace(
                reached=active.reached, diagnostics=diagnostics
            )


class ReverseRun(ScheduledRun):
    """Train with a schedule, then go back through the whole of it.

    Args:
        problem: What is trained.
        schedule: The values.
        options: Memory; truncation.
    """

    def __init__(
        self,
        problem: InnerProblem,
        schedule: Schedule,
        options: ReverseOptions,
    ) -> None:
        super().__init__(problem, schedule)
        given = problem.model, problem.theta, problem.minibatches.at(0)
        check_reversible(*given, self._optimizer, schedule, options)
        self._options = options
        self.contributing = contributing_steps(schedule.bases, self.horizon, options.truncation)
        self._plan = checkpoint_plan(self.horizon, state_bytes(self.state), options.memory_gb)
        self._trajectory = Trajectory(self.horizon, self._plan.states)
        model, theta, batch = given
        values = self._optimizer.step_values(
            self._optimizer.given(schedule, 0, self.horizon), theta
        )
        self._fused = can_fuse(model, theta, batch, self._optimizer.named(values.loss))
        self._first_graph = graphs_from(
            *(model, self.state, batch, self._optimizer, schedule, self.horizon),
            *(self._plan, options, self._fused),
        )
        self._graphs: dict[int, Graph] = {}
        self._back: WayBack | None = None
        self._resumed: tuple[dict[str, Tensor], dict] | None = None  # the way back of a snapshot

    def cost(self) -> tuple[int, int]:
        """Gradient evaluations and Hessian products so far, there and back."""
        if self._back is None:
            return self.step, 0
        return self.step + self._plan.retaken + self._back.gradients, self._back.products

    def hypergradients(
        self, validation: Sequence[Batch], tick: Callable[[int], None] = _ignore
    ) -> Hypergradients:
        """Return the hypergradients of the validation loss at the weights reached; once.

        Args:
            validation: Batches of validation data.
            tick: Is called with the number of steps gone back, after each. What it raises breaks
                off the way back; `snapshot` is of there.

        Returns:
            One averaged hypergradient a value.
        """
        found = self.per_step(validation, tick)
        return gather(found, self._schedule, self.state, self._options.truncation)

    def per_step(
        self, validation: Sequence[Batch], tick: Callable[[int], None] = _ignore
    ) -> PerStep:
        """Return the hypergradients of every single step's values; as `hypergradients`."""
        assert self.done, "the way back begins at the end"
        model, minibatches, options = self.problem.model, self.problem.minibatches, self._options
        given = model, self._trajectory, self.state, minibatches.at, validation, self._optimizer
        self._back = back = WayBack(
            *given,
            self._schedule,
            self.horizon,
            fused=self._fused,
            graphs=self._graphs,
            validation_chunks=options.validation_chunks,
            truncation=options.truncation,
            clip_adjoints=options.clip_adjoints,
        )
        if self._resumed is not None:
            back.restore(*self._resumed)
            self._resumed = None
        while not back.done:
            back.advance()
            tick(self.horizon - back.step)
        return back.per_step()

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Return everything that `restore` needs: of the states kept, about `sqrt(T)`."""
        tensors, scalars = super().snapshot()
        states, kept = self._trajectory.snapshot()
        tensors |= {f"kept.{name}": tensor for name, tensor in states.items()}
        scalars |= {"kept": kept, "back": None}
        if self._back is not None:
            own, where = self._back.snapshot()
            tensors |= {f"back.{name}": tensor for name, tensor in own.items()}
            scalars["back"] = where
        return tensors, scalars

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, object]) -> None:
        """Continue from a snapshot, on the way there or on the way back."""
        kept, back = _under("kept.", tensors), _under("back.", tensors)
        beside = {f"kept.{name}" for name in kept} | {f"back.{name}" for name in back}
        own = {name: tensor for name, tensor in tensors.items() if name not in beside}
        super().restore(own, scalars)
        steps, where = scalars["kept"], scalars["back"]
        assert isinstance(steps, list)
        self._trajectory.restore(kept, steps, self.state)
        if where is not None:
            assert isinstance(where, dict)
            self._resumed = back, where

    def advance(self) -> None:
        """Take one inner step, and keep the state before it if it is one to keep."""
        self._trajectory.note(self.step, self.state)
        step, batch = self._begin_step()
        given = self._optimizer.given(self._schedule, step, self.horizon)
        values = self._optimizer.step_values(given, self.state.theta)
        taken = taken_step(
            *(self.problem.model, self.state, batch, self._optimizer, values, step),
            fused=self._fused,
            keep_graph=step >= self._first_graph,
        )
        self.state = taken.state
        if taken.graph is not None:
            self._graphs[step] = taken.graph
        add_scores(self._sums, taken.loss, taken.score, batch)


def differentiated(
    problem: InnerProblem,
    schedule: Schedule,
    options: ForwardOptions | ReverseOptions,
    replay: Replay | None = None,
) -> ForwardRun | ReverseRun:
    """Return the inner run that the options ask for.

    Args:
        problem: What is trained.
        schedule: The values.
        options: Of forward mode, or of reverse mode.
        replay: Takes the steps of forward mode.

    Returns:
        A run at its start.

    Raises:
        ValueError: If the windows do not fit the horizon, or the network or memory the mode.
    """
    if isinstance(options, ReverseOptions):
        return ReverseRun(problem, schedule, options)
    return ForwardRun(problem, schedule, options, replay)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of the name."""
    return {n.removeprefix(prefix): own for n, own in tensors.items() if n.startswith(prefix)}
