"""What both modes share: averages, and how far a hypergradient is to be trusted."""

import math

import pytest
import torch
from problems import Problem, digits_problem
from torch import nn

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip, share_above
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules import sgd
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.schedule import Schedule, contributing_steps
from hypergrad.core.training_step import InnerState
from hypergrad.differentiation import forward, reverse
from hypergrad.differentiation.diagnostics import (
    Diagnostics,
    HypergradientDiagnostics,
    signal_to_noise,
)
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.recursion import Tangents
from hypergrad.differentiation.result import Hypergradients, validation_gradient
from hypergrad.differentiation.reverse import ReverseOptions

SCHEDULE = sgd_schedule((0.1, 0.05), (0.5,), (1e-3,))


def test_contributing_steps_leave_out_the_truncated_ones() -> None:
    bases = sgd_schedule((0.1,) * 5, (0.5,), (1e-3,) * 2).bases
    assert contributing_steps(bases, 100, 0.15) == (17, 17, 17, 17, 17, 85, 43, 43)
    assert contributing_steps(bases, 100) == (20, 20, 20, 20, 20, 100, 50, 50)
    assert contributing_steps(sgd_schedule((0.1,) * 2).bases, 100) == (50, 50)


def test_signal_to_noise_is_the_mean_over_the_spread() -> None:
    samples = torch.tensor([[1.0, -4.0, 3.0], [2.0, -8.0, 3.0], [3.0, -6.0, 3.0]])
    assert signal_to_noise(samples) == [2.0, 3.0, None]
    # of means over four batches each, stated for one batch
    assert signal_to_noise(samples, [4, 4, 4]) == [1.0, 1.5, None]
    assert signal_to_noise(samples[:1]) == [None, None, None]
    assert signal_to_noise(torch.tensor([[1.0], [math.nan]])) == [None]


def test_noise_is_that_of_one_batch_however_the_batches_are_divided() -> None:
    generator = torch.Generator().manual_seed(0)
    h = 1.0 + 0.7 * torch.randn(20_000, 60, generator=generator, dtype=torch.float64)
    for parts in (30, 31, 45, 60):  # lengths 2; 2 and 1; 2 and 1; 1
        edges = [round(i * 60 / parts) for i in range(parts + 1)]
        spans = list(zip(edges, edges[1:], strict=False))
        samples = torch.stack([h[:, a:b].mean(dim=1) for a, b in spans])
        ratios = torch.tensor(signal_to_noise(samples, [b - a for a, b in spans]))
        # |mean| / noise, noise unbiased in its square: 1 / 0.7 on the whole
        assert (1 / ratios**2).mean().sqrt().item() == pytest.approx(0.7, rel=0.05)


def test_equal_samples_have_no_noise_to_compare_with() -> None:
    samples = torch.full((3, 1), 0.1, dtype=torch.float64)
    assert signal_to_noise(samples) == [None]


def test_forward_mode_reports_the_spread_over_validation_batches() -> None:
    problem = digits_problem("mlp", hidden=8)
    given = problem.model, problem.theta, problem.batch_at
    batches = list(torch.arange(300).split(75))
    parts = [(problem.images[-300:][rows], problem.labels[-300:][rows]) for rows in batches]
    whole = forward.hypergradients(*given, parts, SCHEDULE, 12)
    alone = [forward.hypergradients(*given, [part], SCHEDULE, 12).values for part in parts]
    samples = torch.tensor(alone, dtype=torch.float64)
    expected = samples.mean(0).abs() / samples.std(0)
    found = torch.tensor([seen.signal_to_noise for seen in whole.diagnostics], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    # one adjoint a part: reverse mode sees the same spread
    same = reverse.hypergradients(*given, parts, SCHEDULE, 12, ReverseOptions(validation_chunks=4))
    again = torch.tensor([seen.signal_to_noise for seen in same.diagnostics], dtype=torch.float64)
    torch.testing.assert_close(again, expected, rtol=1e-8, atol=0)


def test_the_share_of_clipped_gradients_is_counted_by_both_modes() -> None:
    problem = digits_problem("mlp", hidden=8)
    limit, horizon = 0.05, 9
    touched = total = 0
    clip, rule = ElementwiseClip(limit), sgd()
    theta, slots = problem.theta, (torch.zeros_like(problem.theta),)
    for step in range(horizon):
        point = theta.clone().requires_grad_()
        (g,) = torch.autograd.grad(problem.model.loss(point, problem.batch_at(step)), point)
        touched += int((g.abs() > limit).sum())
        total += len(g)
        theta, slots = rule.update(clip(g), theta, slots, SCHEDULE.at(step, horizon), step)
    given = problem.model, problem.theta, problem.batch_at, problem.validation, SCHEDULE, horizon
    for mode in (forward, reverse):
        found = mode.hypergradients(*given, optimizer=InnerOptimizer(transform=clip))
        assert touched > 0
        assert found.diagnostics[0].clipped_gradients == pytest.approx(touched / total, rel=1e-12)


def test_the_share_of_clipped_products_is_counted_row_by_row() -> None:
    problem = digits_problem("mlp", hidden=8)
    given = problem.model, problem.theta, problem.batch_at, problem.validation, SCHEDULE, 9
    free = forward.hypergradients(*given, ForwardOptions(clip_products=1e9))
    tight = forward.hypergradients(*given, ForwardOptions(clip_products=1e-9))
    none = forward.hypergradients(*given)
    assert [seen.clipped_products for seen in free.diagnostics] == [0.0] * 4
    for seen in tight.diagnostics:
        assert seen.clipped_products is not None
        assert 0.5 < seen.clipped_products <= 1.0  # dead units have exactly no curvature
    assert [seen.clipped_products for seen in none.diagnostics] == [0.0] * 4


def test_what_is_not_a_number_is_not_counted_as_clipped() -> None:
    assert share_above(torch.tensor([math.nan, 1.0, 1.0, 20.0]), 10.0).item() == 0.25
    assert share_above(torch.tensor([[1.0, 20.0], [1.0, 2.0]]), 10.0).tolist() == [0.5, 0.0]
    assert share_above(torch.ones(3), None).item() == 0.0


def test_a_product_that_overflows_where_the_clip_bites_is_zero() -> None:
    """L = sum sqrt|w|: at w = 1e-210 the gradient is clipped, and the second derivative inf."""

    class Roots(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([1e-210, 1.0], dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.w.abs().sqrt().sum() + 0 * x

    model = FlatModel(Roots(), lambda predictions, labels: predictions.sum())
    batch = (torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64))
    # steps that never come back to zero: the first moves nothing, so Z meets the clipped entry
    schedule = sgd_schedule((0.0, 0.3), (), ())
    given = model, model.theta(), lambda step: batch, [batch], schedule, 2
    optimizer = InnerOptimizer(transform=ElementwiseClip(1.0))
    # untested: differences of the loss do not see so sharp a point
    asked = ForwardOptions(clip_products=100.0, self_test=False)
    forwards = forward.hypergradients(*given, asked, optimizer=optimizer)
    untested = reverse.ReverseOptions(self_test=False)
    backwards = reverse.hypergradients(*given, untested, optimizer=optimizer)
    assert all(math.isfinite(h) for h in forwards.values)
    assert forwards.values == pytest.approx(backwards.values, rel=1e-12)


def test_no_validation_data_is_an_error() -> None:
    problem = digits_problem("mlp", hidden=8)
    for mode in (forward, reverse):
        with pytest.raises(ValueError, match="give at least one batch"):
            mode.hypergradients(problem.model, problem.theta, problem.batch_at, [], SCHEDULE, 4)


def exploding(problem: Problem) -> Schedule:
    """Rates so large that the tangents overflow float32 long before the (clipped) weights do."""
    del problem
    return sgd_schedule((30.0,), (0.9,), (1.0,))


def test_overflow_is_reported_by_name_and_step() -> None:
    problem = digits_problem("mlp", hidden=8, dtype=torch.float32)
    schedule, horizon = exploding(problem), 60
    optimizer = InnerOptimizer(transform=ElementwiseClip(1.0))
    found = forward.hypergradients(
        problem.model, problem.theta, problem.batch_at, problem.validation, schedule, horizon,
        optimizer=optimizer,
    )  # fmt: skip
    seen = found.diagnostics[0]
    assert not math.isfinite(found.values[0])
    assert seen.not_finite > 0
    assert seen.not_finite_step is not None
    # the same run, stopped just before and just after the step that is named
    for steps, finite in ((seen.not_finite_step, True), (seen.not_finite_step + 1, False)):
        state = InnerState.start(problem.theta, 1, problem.model.buffers())
        tangents = Tangents.start(problem.theta, 1, 3)
        bound = optimizer.bind(problem.model, schedule)
        for step in range(steps):
            state, tangents, _, _ = forward.forward_step(
                problem.model, state, tangents, problem.batch_at(step), bound, schedule, step,
                horizon, ForwardOptions(),
            )  # fmt: skip
        assert bool(tangents.Z[0].isfinite().all()) is finite
    complaints = found.complaints(schedule)
    assert complaints[0] == (
        f"the hypergradient of learning_rate[0] is {found.values[0]} "
        f"from inner step {seen.not_finite_step}"
    )


def test_complaints_name_only_what_is_not_finite() -> None:
    state = InnerState(torch.zeros(1), (torch.zeros(1),), {})
    fine, lost = (
        HypergradientDiagnostics(1.0, 0.0, 0.0, 0, None),
        HypergradientDiagnostics(None, 0.0, 0.0, 3, 17),
    )
    found = Hypergradients((0.1, math.nan, -math.inf), (1, 1, 1), state, (fine, lost, fine))
    assert found.complaints(sgd_schedule((0.1,), (0.5,), (0.0,))) == [
        "the hypergradient of momentum[0] is nan from inner step 17",
        "the hypergradient of weight_decay[0] is -inf",
    ]


def test_the_validation_gradient_is_the_mean_over_examples() -> None:
    problem = digits_problem("mlp", hidden=8)
    together = (problem.images[-300:], problem.labels[-300:])
    found = validation_gradient(problem.model, problem.theta, problem.validation)
    expected = validation_gradient(problem.model, problem.theta, [together])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_growth_is_that_of_the_tangents_after_the_window() -> None:
    """Step by step, with the largest entry of each tangent noted beside it."""
    problem = digits_problem("mlp", hidden=8)
    bound = InnerOptimizer().bind(problem.model, SCHEDULE)
    state = InnerState.start(problem.theta, 1, {})
    tangents, sizes, horizon = Tangents.start(problem.theta, 1, 4), [], 13
    for step in range(horizon):
        given = problem.batch_at(step), bound, SCHEDULE, step, horizon, ForwardOptions()
        state, tangents, _, _ = forward.forward_step(problem.model, state, tangents, *given)
        sizes.append([max(map(abs, row)) for row in tangents.Z.tolist()])
    found = tangents.diagnostics.growth(tangents.Z)
    assert found[0] == pytest.approx(math.log(sizes[-1][0] / sizes[6][0]) / 6, rel=1e-12)
    assert found[1:] == [None] * 3  # windows that end with the training
    whole = forward.hypergradients(
        problem.model, problem.theta, problem.batch_at, problem.validation, SCHEDULE, horizon
    )
    assert [seen.growth for seen in whole.diagnostics] == found


@pytest.mark.parametrize(("rate", "chaotic"), [(0.02, False), (1.2, True)])
def test_growth_is_how_fast_neighbouring_trainings_part(rate: float, chaotic: bool) -> None:
    """Without any tangent: two plain loops whose first window differs by a little."""
    problem, horizon, nudge = digits_problem("mlp", hidden=8), 40, 1e-8
    paths = []
    for first in (rate + nudge, rate - nudge):
        theta, path = problem.theta, []
        for step in range(horizon):
            point = theta.clone().requires_grad_()
            (g,) = torch.autograd.grad(problem.model.loss(point, problem.batch_at(step)), point)
            theta = theta - (first if step < horizon // 2 else rate) * g
            path.append(theta)
        paths.append(path)
    gaps = [float((a - b).abs().max()) for a, b in zip(*paths, strict=True)]
    expected = math.log(gaps[-1] / gaps[19]) / 20
    given = problem.model, problem.theta, problem.batch_at, problem.validation
    schedule = sgd_schedule((rate, rate), (0.0,), (0.0,))
    growth = forward.hypergradients(*given, schedule, horizon).diagnostics[0].growth
    assert growth == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert (expected > 0.03) is chaotic


@pytest.mark.parametrize("size", [0.0, math.inf, math.nan])
def test_a_tangent_of_no_size_has_no_growth(size: float) -> None:
    Z = torch.tensor([[1.0, -2.0], [size, size]])
    seen = Diagnostics.start(Z[0], 2)
    for used in ({0, 1}, ()):
        seen = seen.after(Z, (), torch.zeros(()), torch.zeros(0), used)
    assert seen.growth(4 * Z) == [pytest.approx(math.log(4)), None]
    assert seen.growth(torch.full_like(Z, size)) == [None, None]
