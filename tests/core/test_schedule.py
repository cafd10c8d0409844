"""Windows and schedules."""

import json

import pytest
import torch

from hypergrad.core.basis import Windows, windows
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules import adamw, sgd
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.schedule import Schedule, schedule_in
from hypergrad.core.schedule_file import learned_for_as_dict


@pytest.mark.parametrize(("count", "horizon"), [(1, 1), (1, 7), (3, 7), (5, 185), (7, 7), (4, 10)])
def test_windows_are_the_steps_with_the_same_floor(count: int, horizon: int) -> None:
    spans = windows(count, horizon)
    for index, (start, stop) in enumerate(spans):
        assert [t for t in range(horizon) if count * t // horizon == index] == list(
            range(start, stop)
        )


@pytest.mark.parametrize(("count", "horizon"), [(-1, 5), (6, 5)])
def test_windows_that_would_be_empty_are_refused(count: int, horizon: int) -> None:
    with pytest.raises(ValueError, match=f"{count} windows do not fit {horizon} inner steps"):
        windows(count, horizon)


def test_each_kind_has_its_own_windows() -> None:
    schedule = sgd_schedule((0.1, 0.2, 0.3), (0.9,), (1e-3, 2e-3))
    seen = [schedule.at(t, 6) for t in range(6)]
    assert [s["learning_rate"] for s in seen] == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    assert [s["momentum"] for s in seen] == [0.9] * 6
    assert [s["weight_decay"] for s in seen] == [1e-3] * 3 + [2e-3] * 3
    in_use = [basis.weights(3, 6) for basis in schedule.bases.values()]
    assert in_use == [((1, 1.0),), ((0, 1.0),), ((1, 1.0),)]


@pytest.mark.parametrize("step", [-1, 6])
def test_a_step_outside_the_horizon_is_refused(step: int) -> None:
    with pytest.raises(ValueError, match=f"step {step} is outside the horizon 0..5"):
        sgd_schedule((0.1,), (0.9,), (0.0,)).at(step, 6)


def test_flat_values_and_columns_are_in_the_order_of_the_kinds() -> None:
    bases = {"learning_rate": Windows(2), "momentum": Windows(1), "weight_decay": Windows(1)}
    schedule = Schedule.from_flat([1, 2, 3, 4], bases)
    assert schedule == sgd_schedule((1.0, 2.0), (3.0,), (4.0,))
    assert schedule.flat == (1.0, 2.0, 3.0, 4.0)
    assert list(schedule.columns())[1:3] == [("learning_rate", 1, 2.0), ("momentum", 0, 3.0)]
    with pytest.raises(ValueError, match="3 values given for 4 hyperparameters"):
        Schedule.from_flat([1, 2, 3], bases)


def test_a_kind_without_values_is_left_at_its_default() -> None:
    schedule = sgd_schedule((0.1, 0.2), (), ())
    assert schedule.counts == {"learning_rate": 2, "momentum": 0, "weight_decay": 0}
    assert schedule.flat == (0.1, 0.2)
    assert [name for name, _, _ in schedule.columns()] == ["learning_rate"] * 2
    assert schedule.at(3, 4) == {"learning_rate": 0.2}
    assert {**sgd().defaults, **schedule.at(3, 4)} == {
        "learning_rate": 0.2, "momentum": 0.0, "weight_decay": 0.0
    }  # fmt: skip
    assert windows(0, 4) == []


def test_a_basis_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a basis for 'b', which is not among \['a'\]"):
        Schedule({"a": (1.0,)}, {"b": Windows(1)})


def test_learning_rates_are_always_there() -> None:
    with pytest.raises(ValueError, match="learning_rate has no value"):
        sgd_schedule((), (0.1,), (0.0,))


def test_apply_sets_every_group_of_an_optimizer() -> None:
    parameters = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [p]} for p in parameters], lr=1.0)
    sgd_schedule((0.1, 0.2), (0.5,), (1e-3,)).apply(optimizer, 7, 10)
    for group in optimizer.param_groups:
        assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.2, 0.5, 1e-3)


@pytest.mark.parametrize("momenta", [(0.0,), (0.9,), (0.9, 0.0, 0.9), (0.0, 0.9)])
def test_apply_makes_torch_sgd_the_inner_optimiser(momenta: tuple[float, ...]) -> None:
    """Zero momentum between others too: torch's velocity must not be left stale there."""
    schedule = sgd_schedule((0.05, 0.02), momenta, (1e-2,))
    rule, theta = sgd(), torch.tensor([1.0, -2.0], dtype=torch.float64)
    parameter, slots = theta.clone().requires_grad_(), (torch.zeros_like(theta),)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    for step in range(12):
        optimizer.zero_grad()
        (parameter**2).sum().backward()
        schedule.apply(optimizer, step, 12)
        optimizer.step()
        theta, slots = rule.update(2 * theta, theta, slots, schedule.at(step, 12), step)
    torch.testing.assert_close(parameter.detach(), theta, rtol=1e-13, atol=0)


def weights(*sizes: int) -> list[torch.Tensor]:
    return [torch.zeros(size, requires_grad=True) for size in sizes]


LEARNED = sgd_schedule((0.1, 0.2), (0.5,), (1e-3,))
ADAMW = InnerOptimizer(adamw(), (Hyperparameter("learning_rate", 2, 1e-3),))


@pytest.mark.parametrize(
    ("schedule", "optimizer", "message"),
    [
        (LEARNED, torch.optim.AdamW(weights(1)), "AdamW takes no momentum"),
        (
            Schedule({"learning_rate": (0.1,)}),
            torch.optim.AdamW(weights(1)),
            "learned for SGD, not",
        ),
        (ADAMW.start(), torch.optim.Adam(weights(1)), "learned for AdamW, not for Adam:"),
        (LEARNED, torch.optim.Adagrad(weights(1)), "a schedule is for one of SGD"),
        (
            LEARNED,
            torch.optim.SGD(weights(1), lr=1.0, momentum=0.9, nesterov=True),
            "learned with nesterov=False, and the optimizer has nesterov=True",
        ),
        (
            LEARNED,
            torch.optim.SGD(weights(1), lr=1.0, momentum=0.9, dampening=0.1),
            "learned with dampening=0, and the optimizer has dampening=0.1",
        ),
        (LEARNED, torch.optim.SGD(weights(1), lr=1.0, maximize=True), "maximize=True"),
        (
            LEARNED,
            torch.optim.SGD([{"params": weights(1), "lr": 0.1}, {"params": weights(1)}], lr=1.0),
            "the parameter groups have learning_rate=0.1 and 1; a schedule",
        ),
        (
            ADAMW.start(),
            torch.optim.AdamW(weights(1), weight_decay=0.1),
            "learned with weight_decay=0.01, and parameter group 0 has weight_decay=0.1",
        ),
        (
            Schedule({"learning_rate": (0.1,)}),
            torch.optim.SGD(weights(1), lr=1.0, momentum=0.9),
            "learned with momentum=0, and parameter group 0 has momentum=0.9",
        ),
    ],
)
def test_apply_refuses_what_the_schedule_was_not_learned_for(
    schedule: Schedule, optimizer: torch.optim.Optimizer, message: str
) -> None:
    before = [{n: v for n, v in g.items() if n != "params"} for g in optimizer.param_groups]
    with pytest.raises(ValueError, match=message):
        schedule.apply(optimizer, 0, 10)
    assert [{n: v for n, v in g.items() if n != "params"} for g in optimizer.param_groups] == before


def test_apply_takes_what_the_schedule_was_learned_for() -> None:
    optimizer = torch.optim.AdamW(weights(1, 2))
    ADAMW.start().apply(optimizer, 0, 10)
    assert optimizer.param_groups[0]["lr"] == 1e-3
    nesterov = InnerOptimizer(sgd(nesterov=True), (Hyperparameter("learning_rate", 1, 0.3),))
    for name in ("momentum", "weight_decay"):
        assert nesterov.learned_for().values[name] == 0.0
    fast = torch.optim.SGD(weights(1), lr=1.0, momentum=0.9, nesterov=True)
    with pytest.raises(ValueError, match="learned with momentum=0, and parameter group 0 has"):
        nesterov.start().apply(fast, 0, 10)


def test_what_a_schedule_was_learned_for_is_kept_with_it() -> None:
    start = ADAMW.start()
    assert start.learned_for is not None
    entry = {**start.as_dict(), "learned_for": learned_for_as_dict(start.learned_for)}
    kept = schedule_in(json.loads(json.dumps(entry)))
    assert kept.learned_for == start.learned_for
    assert schedule_in(start.as_dict()).learned_for is None
