"""Reverse mode against autograd through the unrolled loop, forward mode, and itself."""

import math
from functools import cache

import pytest
import torch
from oracles import reverse_mode
from problems import Problem, digits_problem
from torch import nn
from torch.utils.checkpoint import checkpoint

from hypergrad.core.batches import MicroBatches
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip, NoClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import InnerState, train_step
from hypergrad.differentiation import forward, reverse
from hypergrad.differentiation.checkpointing import Trajectory, checkpoint_plan, state_bytes
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.per_step import PerStep, gather
from hypergrad.differentiation.reverse import ReverseOptions, graphs_from
from hypergrad.differentiation.reverse_step import graph_bytes, outlives_evaluations
from hypergrad.differentiation.way_back import WayBack

RELATIVE = 1e-9  # float64: 1e-16 grown along the loop; a missing term shows at 1e-2


def per_step(horizon: int) -> Schedule:
    """A value of each kind for every step, negative and zero ones among them."""
    alphas = tuple(0.05 * (1 + 0.5 * (t % 3)) * (-1 if t % 7 == 6 else 1) for t in range(horizon))
    betas = tuple(0.1 * (t % 5) for t in range(horizon))
    return sgd_schedule(alphas, betas, tuple(1e-3 * (t % 4) for t in range(horizon)))


def clipped(limit: float | None) -> InnerOptimizer:
    return InnerOptimizer(transform=NoClip() if limit is None else ElementwiseClip(limit))


def found_by(
    problem: Problem,
    schedule: Schedule,
    horizon: int,
    options: ReverseOptions,
    clip: float | None = None,
) -> list:
    given = problem.model, problem.theta, problem.batch_at, problem.validation
    found = reverse.hypergradients(*given, schedule, horizon, options, clipped(clip))
    return [h * n for h, n in zip(found.values, found.contributing, strict=True)]


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize(
    ("name", "horizon"),
    [("mlp", 60), ("lenet", 12), ("wrn", 5)],
)
def test_every_step_equals_autograd_through_the_unrolled_loop(
    name: str, horizon: int, clip: float | None
) -> None:
    options = {"depth": 10} if name == "wrn" else {}
    problem = digits_problem(name, **options)
    schedule = per_step(horizon)
    ours = found_by(problem, schedule, horizon, ReverseOptions(), clip)
    theirs = reverse_mode(
        problem.model, problem.theta, problem.batch_at, problem.validation, schedule, horizon, clip
    )
    torch.testing.assert_close(
        torch.tensor(ours, dtype=torch.float64), theirs, rtol=RELATIVE, atol=1e-13
    )


@pytest.mark.parametrize("clip", [None, 0.05])
def test_it_equals_forward_mode_column_by_column(clip: float | None) -> None:
    problem = digits_problem("mlp", hidden=16)
    horizon = 40
    schedule = per_step(horizon)
    given = problem.model, problem.theta, problem.batch_at, problem.validation, schedule, horizon
    ours = reverse.hypergradients(*given, optimizer=clipped(clip))
    theirs = forward.hypergradients(
        *given, ForwardOptions(strategy="vmap"), optimizer=clipped(clip)
    )
    assert ours.contributing == theirs.contributing == (1,) * 120
    torch.testing.assert_close(
        torch.tensor(ours.values, dtype=torch.float64),
        torch.tensor(theirs.values, dtype=torch.float64),
        rtol=RELATIVE,
        atol=1e-13,
    )


def test_shared_values_are_the_means_of_the_unshared_ones_in_their_windows() -> None:
    problem = digits_problem("lenet")
    horizon = 12
    shared = sgd_schedule((0.05, 0.02, 0.1), (0.5,), (1e-3, 0.0))
    every = sgd_schedule(
        *(tuple(kind[len(kind) * t // horizon] for t in range(horizon))
          for kind in shared.values())
    )  # fmt: skip
    given = problem.model, problem.theta, problem.batch_at, problem.validation
    single = torch.tensor(
        reverse.hypergradients(*given, every, horizon).values, dtype=torch.float64
    ).split(horizon)
    means = [
        part.mean() for kind, n in zip(single, (3, 1, 2), strict=True) for part in kind.chunk(n)
    ]
    expected = torch.stack(means)
    forwards = forward.hypergradients(*given, shared, horizon)
    for found in (reverse.hypergradients(*given, shared, horizon), forwards):
        torch.testing.assert_close(
            torch.tensor(found.values, dtype=torch.float64), expected, rtol=RELATIVE, atol=0
        )


@pytest.mark.parametrize("name", ["lenet", "wrn"])
def test_checkpoints_change_no_bit(name: str) -> None:
    options = {"depth": 10} if name == "wrn" else {}
    problem = digits_problem(name, dtype=torch.float32, **options)
    horizon = 11
    schedule = per_step(horizon)
    size = state_bytes(InnerState.start(problem.theta, 1, problem.model.buffers()))
    small = 5 * size / 1e9
    assert checkpoint_plan(horizon, size, small)[:2] == (3, 10)
    whole = found_by(problem, schedule, horizon, ReverseOptions(), 3.0)
    assert found_by(problem, schedule, horizon, ReverseOptions(memory_gb=small), 3.0) == whole


@pytest.mark.parametrize("curves", ["lenet", "wrn", "mlp"])
def test_graphs_that_are_kept_change_no_bit(curves: str) -> None:
    """None, the last three, all of them."""
    options = {"depth": 10} if curves == "wrn" else {}
    problem = digits_problem(curves, dtype=torch.float32, **options)
    horizon, schedule = 7, per_step(7)
    bound = clipped(3.0).bind(problem.model, schedule)
    state = InnerState.start(problem.theta, 1, problem.model.buffers())
    values = bound.step_values(bound.given(schedule, 0, horizon), problem.theta)
    given = problem.model, state, problem.batch_at(0), bound
    graph = graph_bytes(*given, values, fused=True)
    images = problem.batch_at(0)[0]
    assert graph > images.nbytes  # at least what goes in
    found = []
    for keep, count in ((False, 0), (True, 3.5), (True, 7.5)):
        states = (horizon + 2) * state_bytes(state)
        memory = (states + count * graph) / 1e9
        own = ReverseOptions(keep_graphs=keep, memory_gb=memory)
        plan = checkpoint_plan(horizon, state_bytes(state), memory)
        assert graphs_from(*given, schedule, horizon, plan, own, True) == horizon - int(count)
        found.append(found_by(problem, schedule, horizon, own, 3.0))
    assert found[1] == found[0]
    assert found[2] == found[0]


class Recomputed(nn.Module):
    """Activations are computed again in the backward pass, with the weights that are there then."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 16).double(), nn.Linear(16, 10).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = checkpoint(lambda t: torch.tanh(self.first(t)), x.flatten(1), use_reentrant=False)
        return self.second(hidden)


def test_a_graph_that_looks_at_the_present_weights_is_not_kept() -> None:
    model, problem = FlatModel(Recomputed()), digits_problem("mlp")
    schedule, horizon = sgd_schedule((0.5, 0.3), (0.5,), (0.01,)), 12
    bound = InnerOptimizer().bind(model, schedule)
    state = InnerState.start(model.theta(), 1, model.buffers())
    values = bound.step_values(bound.given(schedule, 0, horizon), model.theta())
    given = model, state, problem.batch_at(0), bound, values
    assert not outlives_evaluations(*given, fused=True)
    same = model, model.theta(), problem.batch_at, problem.validation, schedule, horizon
    ours = reverse.hypergradients(*same)
    theirs = forward.hypergradients(*same, ForwardOptions(strategy="loop"))
    assert ours.values == pytest.approx(theirs.values, rel=1e-9)
    plain = digits_problem("lenet", dtype=torch.float32)
    bound = InnerOptimizer().bind(plain.model, schedule)
    state = InnerState.start(plain.theta, 1, plain.model.buffers())
    values = bound.step_values(bound.given(schedule, 0, horizon), plain.theta)
    assert outlives_evaluations(plain.model, state, plain.batch_at(0), bound, values, fused=True)


def test_no_graph_is_kept_where_none_is_of_use() -> None:
    problem = digits_problem("mlp", hidden=8)
    state = InnerState.start(problem.theta, 1, problem.model.buffers())
    options, size = ReverseOptions(), state_bytes(state)

    def first(schedule: Schedule, batch: Batch, memory: float) -> int:
        bound = clipped(None).bind(problem.model, schedule)
        plan = checkpoint_plan(9, size, memory)
        return graphs_from(problem.model, state, batch, bound, schedule, 9, plan, options, True)

    moving, still = sgd_schedule((0.1,), (), ()), sgd_schedule((0.0,), (), ())
    batch = problem.batch_at(0)
    assert first(moving, batch, 1.0) == 0
    assert first(still, batch, 1.0) == 9  # without a rate there is no product
    assert first(moving, MicroBatches([batch, batch]), 1.0) == 9
    assert first(moving, batch, 8 * size / 1e9) == 9  # the states come first


def test_too_little_memory_names_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"needs 0\.005 GB even with checkpoints.* raise it"):
        checkpoint_plan(1000, 500_000, 0.004)
    assert checkpoint_plan(1000, 500_000, 0.005).states == 8


def test_states_of_lenet_fit_small_budgets() -> None:
    problem = digits_problem("lenet", dtype=torch.float32)
    size = state_bytes(InnerState.start(problem.theta, 1, problem.model.buffers()))
    assert size == 2 * 44_426 * 4
    assert checkpoint_plan(1000, size, ReverseOptions().memory_gb)[:2] == (1000, 0)
    for limit, steps in ((0.08, 1.0), (0.05, 1.02), (0.03, 1.65)):
        plan = checkpoint_plan(10_000, size, limit)
        assert plan.bytes <= limit * 1e9
        assert plan.retaken <= steps * 10_000


@pytest.mark.parametrize("horizon", [1, 2, 7, 30])
@pytest.mark.parametrize("states", [1, 2, 3, 5, 8, 30])
def test_a_trajectory_takes_as_few_steps_again_as_possible(horizon: int, states: int) -> None:
    if states > horizon:
        return
    taken: list[int] = []

    def advance(step: int, state: InnerState) -> InnerState:
        assert int(state.theta) == step
        taken.append(step)
        return at(step + 1)

    def at(step: int) -> InnerState:
        return InnerState(torch.tensor(step), (), {})

    trajectory = Trajectory(horizon, states)
    for step in range(horizon):
        trajectory.note(step, at(step))
    kept = trajectory.kept
    for step in reversed(range(horizon)):
        assert int(trajectory.before(step, advance).theta) == step
        assert len(trajectory.kept) <= states
    size = 8
    planned = checkpoint_plan(horizon, size, (states + 2) * size / 1e9) if states > 2 else None
    assert len(taken) == fewest(horizon, states) - kept[-1]
    assert planned is None or planned.retaken == len(taken)


@cache
def fewest(length: int, states: int) -> int:
    """By trying all ways to place the next state: steps to go back through a stretch."""
    if length == 1 or states == 1:
        return length * (length - 1) // 2
    ways = range(1, length)
    return min(m + fewest(length - m, states - 1) + fewest(m, states) for m in ways)


def test_a_trajectory_goes_on_from_a_snapshot() -> None:
    """On the way there and on the way back, with all states and with few."""

    def at(step: int) -> InnerState:
        number = torch.tensor(float(step))
        return InnerState(number, (number * 2,), {"seen": number * 3})

    def same(state: InnerState, step: int) -> bool:
        return [float(t) for t in state.tensors()] == [step, 2 * step, 3 * step]

    def advance(step: int, state: InnerState) -> InnerState:
        assert same(state, step)
        return at(step + 1)

    horizon = 30
    for states in (horizon, 4):
        for stop in range(2 * horizon):
            there, back = min(stop, horizon), max(stop - horizon, 0)
            first, second = Trajectory(horizon, states), Trajectory(horizon, states)
            for step in range(there):
                first.note(step, at(step))
            for step in reversed(range(horizon - back, horizon)):
                first.before(step, advance)
            tensors, steps = first.snapshot()
            assert len(steps) <= 6
            second.restore(tensors, steps, at(0))
            for step in range(there, horizon):
                second.note(step, at(step))
            for step in reversed(range(horizon - back)):
                assert same(second.before(step, advance), step)


def test_without_learning_rates_there_is_nothing_to_differentiate_twice() -> None:
    problem = digits_problem("mlp", hidden=8)
    schedule, horizon = sgd_schedule((0.0,) * 6, (0.0,) * 6, (0.0,) * 6), 6
    ours = found_by(problem, schedule, horizon, ReverseOptions())
    theirs = reverse_mode(
        problem.model, problem.theta, problem.batch_at, problem.validation, schedule, horizon
    )
    torch.testing.assert_close(
        torch.tensor(ours, dtype=torch.float64), theirs, rtol=RELATIVE, atol=1e-15
    )


def test_a_kind_without_values_has_no_hypergradient() -> None:
    problem = digits_problem("mlp", hidden=8)
    given = problem.model, problem.theta, problem.batch_at, problem.validation
    with_all = reverse.hypergradients(*given, sgd_schedule((0.1, 0.05), (0.0,), (0.0,)), 8)
    alone = sgd_schedule((0.1, 0.05), (), ())
    for mode in (forward, reverse):
        found = mode.hypergradients(*given, alone, 8)
        assert found.contributing == (4, 4)
        assert found.values == pytest.approx(with_all.values[:2], rel=1e-9)


def test_dropout_is_refused() -> None:
    model = FlatModel(nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 10)).double())
    problem = digits_problem("mlp")
    with pytest.raises(ValueError, match="draws random numbers.*strategy='loop'"):
        reverse.hypergradients(
            model, model.theta(), problem.batch_at, problem.validation, sgd_schedule((0.1,)), 3
        )


def test_randomness_that_no_layer_declares_is_noticed() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 10).double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(nn.functional.dropout(x.flatten(1), training=self.training))

    model, problem = FlatModel(Own()), digits_problem("mlp")
    with pytest.raises(ValueError, match="Own draws random numbers.*strategy='loop'"):
        reverse.hypergradients(
            model, model.theta(), problem.batch_at, problem.validation, sgd_schedule((0.1,)), 3
        )


def test_what_is_lost_on_the_way_back_began_at_one_step() -> None:
    values = torch.zeros(1, 12, 2, dtype=torch.float64)
    values[:, :8] = math.nan
    values[:, 8, 1] = math.inf
    found = PerStep(("learning_rate", "momentum"), values, {}, (1.0,), (1,), 0.0)
    state = InnerState(torch.zeros(1), (torch.zeros(1),), {})
    diagnostics = gather(found, sgd_schedule((0.1,) * 3, (0.5,), ()), state).diagnostics
    # windows of steps 0-3, 4-7 and 8-11; the momentum of all
    assert [seen.not_finite for seen in diagnostics] == [4, 4, 0, 9]
    assert [seen.not_finite_step for seen in diagnostics] == [8, 8, None, 8]


class Fading(nn.Module):
    """A layer with a buffer that every training step changes, and the loss depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.ones((), dtype=torch.float64))
        self.linear = nn.Linear(64, 10).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(x.flatten(1)) * self.gain.clone()
        if self.training:
            self.gain.mul_(0.8)
        return self.linear(y)


def test_a_buffer_that_training_changes_is_read_as_it_was() -> None:
    model, problem = FlatModel(Fading()), digits_problem("mlp")
    schedule = sgd_schedule((0.3, 0.2), (0.5,), (0.01,))
    given = model, model.theta(), problem.batch_at, problem.validation, schedule, 6
    found = [
        forward.hypergradients(*given, ForwardOptions(strategy="loop")).values,
        forward.hypergradients(*given, ForwardOptions(strategy="vmap")).values,
    ]
    for other in found:
        assert reverse.hypergradients(*given).values == pytest.approx(other, rel=1e-9)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"memory_gb": 0}, "memory"),
        ({"validation_chunks": 0}, "validation_chunks"),
        ({"truncation": 1.0}, "truncation"),
        ({"clip_adjoints": 0.0}, "clip_adjoints"),
    ],
)
def test_options_out_of_range(fields: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ReverseOptions(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize("truncation", [0.15, 0.5, 0.9])
@pytest.mark.parametrize("counts", [(5, 1, 1), (3, 2, 4), (2, 2, 2), (1, 0, 3)])
def test_truncated_it_equals_forward_mode(
    counts: tuple[int, int, int], truncation: float, chunks: int
) -> None:
    problem = digits_problem("mlp", hidden=16)
    starts = (0.2, 0.05, 0.1, 0.3, 0.02), (0.5, 0.2), (1e-2, 1e-3, 0.0, 5e-3)
    given_values = (own[:count] for own, count in zip(starts, counts, strict=True))
    schedule, horizon = sgd_schedule(*given_values), 40
    given = problem.model, problem.theta, problem.batch_at, problem.validation, schedule, horizon
    options = ReverseOptions(truncation=truncation, validation_chunks=chunks)
    ours = reverse.hypergradients(*given, options, clipped(0.05))
    theirs = forward.hypergradients(
        *given, ForwardOptions(truncation=truncation, strategy="vmap"), optimizer=clipped(0.05)
    )
    assert ours.contributing == theirs.contributing
    torch.testing.assert_close(
        torch.tensor(ours.values, dtype=torch.float64),
        torch.tensor(theirs.values, dtype=torch.float64),
        rtol=RELATIVE,
        atol=1e-13,
    )


def test_a_frozen_step_costs_no_product() -> None:
    problem = digits_problem("mlp", hidden=8)
    bound = InnerOptimizer().bind(problem.model, schedule := sgd_schedule((0.1, 0.2), (0.5,), ()))
    horizon, truncation = 20, 0.5
    trajectory = Trajectory(horizon, horizon)
    state = InnerState.start(problem.theta, 1, problem.model.buffers())
    for step in range(horizon):
        trajectory.note(step, state)
        values = bound.step_values(bound.given(schedule, step, horizon), problem.theta)
        state, _, _ = train_step(problem.model, state, problem.batch_at(step), bound, values, step)
    given = problem.model, trajectory, state, problem.batch_at, problem.validation, bound, schedule
    back = WayBack(*given, horizon, fused=False, truncation=truncation)
    seen = []
    while not back.done:
        back.advance()
        seen.append((back.step, back.gradients, back.products))
    # Learning rates are frozen at steps 0-4 and 10-14, the momentum at 0-9.
    assert seen[4] == (15, 5, 5)
    assert seen[9] == (10, 10, 10)  # the momentum alone: both together until step 14
    assert seen[14] == (5, 15, 15)
    assert seen[19] == (0, 15, 15)


@pytest.mark.parametrize("limit", [1e6, 1.5])
def test_adjoints_are_clipped_to_so_many_validation_gradients(limit: float) -> None:
    problem = digits_problem("mlp", hidden=16)
    schedule, horizon = sgd_schedule((0.9, 0.5), (0.9,), ()), 40
    given = problem.model, problem.theta, problem.batch_at, problem.validation, schedule, horizon
    exact = reverse.hypergradients(*given)
    found = reverse.hypergradients(*given, ReverseOptions(clip_adjoints=limit))
    shares = {seen.clipped_products for seen in found.diagnostics}
    assert [seen.clipped_products for seen in exact.diagnostics] == [None] * 3
    if limit > 1e5:
        assert shares == {0.0}
        assert found.values == exact.values
    else:
        assert len(shares) == 1
        assert 0.1 < shares.pop() < 1
        assert abs(found.values[0]) < abs(exact.values[0])
