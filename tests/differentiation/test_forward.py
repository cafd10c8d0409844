"""Hypergradients against reverse mode, central differences, closed forms and Appendix A itself."""

import math

import numpy as np
import pytest
import torch
from oracles import appendix_recursion, reverse_mode, unrolled_loss
from problems import Problem, digits_problem
from torch import Tensor, nn

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip, NoClip, NormClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd import NAMES
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import InnerState
from hypergrad.differentiation import recursion
from hypergrad.differentiation.forward import forward_step, hypergradients
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.recursion import Tangents
from hypergrad.differentiation.result import validation_gradient

# Both sides add up a few hundred products in float64, in another order: 1e-9 leaves room for
# the growth of 1e-16 along the loop and none for a missing term.
RELATIVE = 1e-9

SCHEDULES = {
    "momentum": sgd_schedule((0.05, 0.1, 0.02), (0.5, 0.8), (1e-3, 4e-3)),
    "constant": sgd_schedule((0.05,), (0.9,), (5e-4,)),
    "many": sgd_schedule((0.1, 0.05, 0.02, 0.01, 0.005), (0.0, 0.6, 0.3), (0.0, 1e-2)),
    "reversed": sgd_schedule((0.05, -0.02, 0.05), (0.3,), (1e-3,)),
}


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float(((ours - theirs).abs() / theirs.abs()).max())


def summed(
    problem: Problem,
    schedule: Schedule,
    horizon: int,
    options: ForwardOptions,
    clip: float | None = None,
) -> Tensor:
    """Hypergradients with the averaging undone."""
    found = hypergradients(
        problem.model,
        problem.theta,
        problem.batch_at,
        problem.validation,
        schedule,
        horizon,
        options,
        optimizer=InnerOptimizer(transform=NoClip() if clip is None else ElementwiseClip(clip)),
    )
    values = torch.tensor(found.values, dtype=torch.float64)
    return values * torch.tensor(found.contributing, dtype=torch.float64)


def expected(
    problem: Problem, schedule: Schedule, horizon: int, clip: float | None = None
) -> Tensor:
    return reverse_mode(
        problem.model,
        problem.theta,
        problem.batch_at,
        problem.validation,
        schedule,
        horizon,
        clip,
    )


@pytest.mark.parametrize("clip", [None, 0.02], ids=["free", "clipped"])
@pytest.mark.parametrize("schedule", ["momentum", "many"])
@pytest.mark.parametrize(
    ("name", "options", "horizon", "strategy"),
    [
        ("mlp", {"hidden": 16}, 200, "loop"),
        ("mlp", {"hidden": 16}, 200, "vmap"),
        ("mlp", {"hidden": 16}, 200, "stacked"),
        ("lenet", {}, 24, "loop"),
        ("lenet", {}, 24, "vmap"),
        ("lenet", {}, 24, "stacked"),
        ("wrn", {"depth": 10}, 8, "loop"),
        ("wrn", {"depth": 10}, 8, "vmap"),
        ("wrn", {"depth": 10}, 8, "fused"),
    ],
)
def test_equals_reverse_mode(
    name: str, options: dict, horizon: int, schedule: str, strategy: str, clip: float | None
) -> None:
    problem = digits_problem(name, batch_size=8, **options)
    options = ForwardOptions(strategy=strategy)
    ours = summed(problem, SCHEDULES[schedule], horizon, options, clip)
    theirs = expected(problem, SCHEDULES[schedule], horizon, clip)
    assert relative_error(ours, theirs) < RELATIVE


@pytest.mark.slow
@pytest.mark.parametrize("clip", [None, 0.05], ids=["free", "clipped"])
@pytest.mark.parametrize(("name", "options"), [("lenet", {}), ("wrn", {"depth": 10})])
def test_equals_reverse_mode_over_hundreds_of_steps(
    name: str, options: dict, clip: float | None
) -> None:
    problem = digits_problem(name, batch_size=16, **options)
    schedule = sgd_schedule((0.02, 0.05, 0.01, 0.005, 0.002), (0.5,), (1e-3,))
    ours = summed(problem, schedule, 300, ForwardOptions(strategy="vmap"), clip)
    assert relative_error(ours, expected(problem, schedule, 300, clip)) < RELATIVE


@pytest.mark.parametrize("schedule", ["constant", "reversed"])
def test_equals_central_differences_on_a_smooth_network(schedule: str) -> None:
    problem = digits_problem("mlp", hidden=8, smooth=True)
    horizon, step = 60, 1e-5
    ours = summed(problem, SCHEDULES[schedule], horizon, ForwardOptions())
    flat, bases = SCHEDULES[schedule].flat, SCHEDULES[schedule].bases

    def loss(values: list[float]) -> float:
        moved = Schedule.from_flat(values, bases)
        kinds = [torch.tensor(kind, dtype=torch.float64) for kind in moved.values()]
        return float(
            unrolled_loss(
                problem.model, problem.theta, problem.batch_at, problem.validation, kinds, horizon
            ).detach()
        )

    for index in range(len(flat)):
        up, down = list(flat), list(flat)
        up[index] += step
        down[index] -= step
        slope = (loss(up) - loss(down)) / (2 * step)
        # The error of central differences is of order step^2 plus rounding over step.
        assert float(ours[index]) == pytest.approx(slope, rel=1e-5)


class _Point(nn.Module):
    """Parameters that are their own prediction: the loss is then a function of theta alone."""

    def __init__(self, start: list[float]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w


def test_equals_the_closed_form_on_a_quadratic() -> None:
    """L = a w^2 / 2: the loop is a product of 2x2 matrices, its derivative a sum of products."""
    curvatures = np.array([0.3, 1.0, 2.5])
    start = [1.0, -2.0, 0.5]
    a = torch.tensor(curvatures)
    model = FlatModel(_Point(start), lambda w, _: 0.5 * (a * w * w).sum())
    schedule, horizon = sgd_schedule((0.1, 0.3, 0.05), (0.4, 0.7), (0.01, 0.02)), 31
    nothing = torch.zeros(1)
    found = hypergradients(
        model,
        model.theta(),
        lambda step: (nothing, nothing),
        [(nothing, nothing)],
        schedule,
        horizon,
    )
    exact = np.zeros(len(schedule.flat))
    for curvature, w in zip(curvatures, start, strict=True):
        # (w, v) -> M (w, v), M = [[1 - alpha (a + mu), -alpha beta], [a + mu, beta]]
        steps = [[schedule.at(t, horizon)[name] for name in NAMES] for t in range(horizon)]
        matrices = [
            np.array([[1 - alpha * (curvature + mu), -alpha * beta], [curvature + mu, beta]])
            for alpha, beta, mu in steps
        ]
        after = [np.eye(2)]
        for M in reversed(matrices):
            after.append(after[-1] @ M)
        after.reverse()  # after[t] = product of the matrices from step t on
        final = after[0] @ [w, 0.0]
        before = np.array([w, 0.0])
        for t, (alpha, beta, mu) in enumerate(steps):
            slopes = [
                np.array([[-(curvature + mu), -beta], [0, 0]]),
                np.array([[0, -alpha], [0, 1.0]]),
                np.array([[-alpha, 0], [1.0, 0]]),
            ]
            first = 0
            for slope, count in zip(slopes, schedule.counts.values(), strict=True):
                change = after[t + 1] @ slope @ before
                exact[first + count * t // horizon] += curvature * final[0] * change[0]
                first += count
            before = matrices[t] @ before
    ours = np.array(found.values) * np.array(found.contributing)
    np.testing.assert_allclose(ours, exact, rtol=1e-12)


def test_the_misprint_in_the_appendix_fails_where_the_correction_passes() -> None:
    problem = digits_problem("mlp", hidden=2, depth=1)
    schedule, horizon = sgd_schedule((0.1, 0.05), (0.6,), (1e-3,)), 25
    theirs = expected(problem, schedule, horizon)

    def recursion(misprint: bool) -> Tensor:
        return appendix_recursion(
            problem.model,
            problem.theta,
            problem.batch_at,
            lambda theta: validation_gradient(problem.model, theta, problem.validation),
            schedule,
            horizon,
            misprint=misprint,
        )

    assert relative_error(recursion(misprint=False), theirs) < RELATIVE
    printed = recursion(misprint=True)
    beta = 2  # the first two columns are learning rates
    assert relative_error(printed[[0, 1, 3]], theirs[[0, 1, 3]]) < RELATIVE
    assert abs(printed[beta] - theirs[beta]) > 0.01 * abs(theirs[beta])


@pytest.mark.parametrize("truncation", [0.0, 0.15, 0.5])
@pytest.mark.parametrize("clip", [None, 1e-3], ids=["free", "clipped"])
@pytest.mark.parametrize("strategy", ["loop", "vmap", "stacked", "fused"])
def test_truncation_and_product_clip_equal_the_dense_recursion(
    truncation: float, clip: float | None, strategy: str
) -> None:
    problem = digits_problem("mlp", hidden=2, depth=1)
    schedule, horizon = sgd_schedule((0.1, 0.05, 0.2), (0.6,), (1e-3, 2e-3)), 30
    theirs = appendix_recursion(
        problem.model,
        problem.theta,
        problem.batch_at,
        lambda theta: validation_gradient(problem.model, theta, problem.validation),
        schedule,
        horizon,
        clip_products=clip,
        truncation=truncation,
    )
    ours = summed(
        problem,
        schedule,
        horizon,
        ForwardOptions(clip_products=clip, truncation=truncation, strategy=strategy),
    )
    assert relative_error(ours, theirs) < RELATIVE


def test_the_average_of_shared_values_is_the_sum_over_their_steps_divided_by_them() -> None:
    problem = digits_problem("mlp", hidden=8)
    shared = sgd_schedule((0.1, 0.1), (0.5,), (1e-3,))
    every = sgd_schedule((0.1,) * 20, (0.5,), (1e-3,))
    args = (problem.model, problem.theta, problem.batch_at, problem.validation)
    coarse = hypergradients(*args, shared, 20).values
    fine = hypergradients(*args, every, 20).values
    assert coarse[0] == pytest.approx(np.mean(fine[:10]), rel=1e-9)
    assert coarse[1] == pytest.approx(np.mean(fine[10:20]), rel=1e-9)


def test_from_zero_only_the_learning_rate_is_informed_and_products_are_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows: list[int] = []
    real = recursion.gradient_and_products

    def counted(loss, theta, Z, *rest):  # noqa: ANN001, ANN002, ANN202
        rows.append(len(Z))
        return real(loss, theta, Z, *rest)

    monkeypatch.setattr(recursion, "gradient_and_products", counted)
    problem = digits_problem("mlp", hidden=8)
    zeros = sgd_schedule((0.0, 0.0), (0.0,), (0.0,))
    found = hypergradients(
        problem.model, problem.theta, problem.batch_at, problem.validation, zeros, 10
    )
    theirs = expected(problem, zeros, 10)
    assert all(h < 0 for h in found.values[:2])
    np.testing.assert_allclose(np.array(found.values[:2]) * 5, theirs[:2].numpy(), rtol=1e-9)
    assert found.values[2:] == (0.0, 0.0)
    assert rows == [0] * 10


def test_products_are_computed_only_for_columns_that_have_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows: list[int] = []
    real = recursion.gradient_and_products

    def counted(loss, theta, Z, *rest):  # noqa: ANN001, ANN002, ANN202
        rows.append(len(Z))
        return real(loss, theta, Z, *rest)

    monkeypatch.setattr(recursion, "gradient_and_products", counted)
    problem = digits_problem("mlp", hidden=8)
    args = (problem.model, problem.theta, problem.batch_at, problem.validation)
    hypergradients(*args, sgd_schedule((0.1, 0.1), (0.5,), (0.0,)), 6)
    # alpha's first column, beta's and mu's from the second step on; alpha's second one later
    assert rows == [0, 3, 3, 3, 4, 4]


@pytest.mark.parametrize("strategy", ["loop", "vmap", "stacked"])
def test_float32_agrees_with_float64(strategy: str) -> None:
    """On a smooth network: on ReLU networks kinks make any two roundings differ by about 1e-3."""
    schedule = SCHEDULES["momentum"]
    single = digits_problem("mlp", hidden=8, smooth=True, dtype=torch.float32)
    double = digits_problem("mlp", hidden=8, smooth=True)
    ours = summed(single, schedule, 40, ForwardOptions(strategy=strategy))
    assert relative_error(ours, summed(double, schedule, 40, ForwardOptions())) < 1e-4


def test_inputs_are_left_as_they_were() -> None:
    problem = digits_problem("wrn", depth=10)
    tangents = Tangents.start(problem.theta, 1, 3)
    state = InnerState.start(problem.theta, 1, problem.model.buffers())
    schedule = sgd_schedule((0.1,), (0.5,), (1e-3,))
    optimizer = InnerOptimizer().bind(problem.model, schedule)
    for step in range(2):
        given = state.theta, *state.slots, tangents.Z, *tangents.S
        before = [t.clone() for t in given]
        after, moved, _, _ = forward_step(
            problem.model,
            state,
            tangents,
            problem.batch_at(step),
            optimizer,
            schedule,
            step,
            10,
            ForwardOptions(),
        )
        for now, then in zip(given, before, strict=True):
            assert torch.equal(now, then)
        state, tangents = after, moved


def test_a_loss_that_is_not_finite_gives_hypergradients_that_are_not_finite() -> None:
    problem = digits_problem("mlp", hidden=8)
    found = hypergradients(
        problem.model,
        problem.theta,
        problem.batch_at,
        problem.validation,
        sgd_schedule((1e200,), (0.5,), (1e-3,)),
        5,
    )
    assert not any(math.isfinite(h) for h in found.values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip_products": -1.0}, "clip_products=-1.0 must be above zero"),
        ({"truncation": 1.0}, "truncation=1.0 must be in"),
        ({"strategy": "magic"}, "unknown strategy 'magic'"),
    ],
)
def test_bad_options_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ForwardOptions(**arguments)


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("transform", [ElementwiseClip, NormClip])
def test_a_bad_gradient_clip_is_named(transform: type, limit: float) -> None:
    with pytest.raises(ValueError, match=f"gradient clip of {limit}: must be above zero"):
        transform(limit)
