"""Declarations of hyperparameters: what is refused, how they move, and what they are set for."""

import math
import sys
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
import unrolled
from sklearn.datasets import load_digits
from torch import Tensor, nn
from unrolled import Coefficients

from hypergrad.core.basis import Hats, Vector, Windows
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.hyperparameters import EDGE, Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.losses import cross_entropy
from hypergrad.core.objective import Objective
from hypergrad.core.outer_optimizer import has_converged, sign_descent, start
from hypergrad.core.rules import Rule, adamw, sgd
from hypergrad.core.schedule import Schedule
from hypergrad.differentiation import forward, reverse
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.result import Hypergradients
from hypergrad.differentiation.reverse import ReverseOptions

# Declarations


@dataclass
class Thawed:
    """A basis that can be changed, and so cannot be hashed."""

    count: int = 2
    size: int = 1

    def weights(self, step: int, horizon: int) -> tuple[tuple[int, float], ...]:
        return (0, 1.0), (1, step / horizon)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": "square"}, "a: unknown scale 'square': use one of .*linear.*log.*logit"),
        ({"where": lambda name, p: True}, "a is for some of the parameters: give it a name of its"),
        ({"where": lambda name, p: True, "sets": "a"}, "give it a name of its own, and sets='a'"),
        ({"first_move": 0.0}, "a: first_move=0.0: must be above zero"),
        ({"first_move": -0.1}, "a: first_move=-0.1: must be above zero"),
        ({"first_move": math.inf}, "a: first_move=inf: must be above zero"),
        ({"first_move": math.nan}, "a: first_move=nan: must be above zero"),
        ({"basis": 0}, "a: a basis of 0: give at least 1"),
        ({"basis": -2}, "a: a basis of -2: give at least 1"),
        ({"basis": 2.0}, "a: a basis of 2.0: a number of windows is whole"),
        ({"basis": Thawed()}, "a: its basis must be hashable: freeze it"),
        ({"low": 0.6, "high": 0.4}, "a: low=0.6 is above high=0.4"),
        ({"start": math.nan}, "a: start=nan: must be a number in"),
        ({"start": math.inf}, "a: start=inf: must be a number in"),
        ({"start": 0.0, "low": 0.1}, r"a: start=0.0: must be a number in \[0.1, inf\] on a linear"),
        ({"start": 0.5, "high": 0.1}, r"a: start=0.5: must be a number in \[-inf, 0.1\] on a lin"),
        ({"scale": "log"}, "a: start=0.0: must be a number in .* on a log scale"),
        ({"scale": "log", "start": -1.0}, "a: start=-1.0: must be a number in .* on a log scale"),
        ({"scale": "logit"}, "a: start=0.0: must be a number in .* on a logit scale"),
        ({"scale": "logit", "start": 1.0}, "a: start=1.0: must be a number in .* on a logit scale"),
        ({"basis": 3, "start": (0.1, 0.2)}, "a: 2 starting values for 3"),
        ({"basis": Vector(4, Hats(2)), "start": (0.1,) * 4}, "a: 4 starting values for 8"),
        ({"basis": 2, "start": (0.1, math.nan)}, "a: start=nan: must be a number in"),
    ],
)
def test_what_cannot_be_is_refused(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        Hyperparameter("a", **given)
    assert "\n" not in str(refusal.value)


def test_a_declaration_has_defaults() -> None:
    plain = Hyperparameter("a")
    assert (plain.over, plain.coefficients, plain.target) == (Windows(1), (0.0,), "a")
    assert plain.range == (-math.inf, math.inf)
    assert plain.learned
    assert Hyperparameter("head", 3, 0.1, sets="learning_rate").target == "learning_rate"
    assert Hyperparameter("a", 3, 0.1).coefficients == (0.1, 0.1, 0.1)
    assert Hyperparameter("a", Vector(2, Hats(3)), 1).coefficients == (1.0,) * 6
    assert Hyperparameter("a", 2, [1, 2]).coefficients == (1.0, 2.0)


# Scales


SCALED = [
    Hyperparameter("a", start=0.3),
    Hyperparameter("a", start=0.3, scale="log"),
    Hyperparameter("a", start=0.3, scale="logit"),
]


@pytest.mark.parametrize("by", [-3.0, -0.1, 0.0, 1e-6, 0.5, 4.0])
@pytest.mark.parametrize("whose", SCALED, ids=lambda each: each.scale)
def test_the_distance_of_a_move_is_the_move(whose: Hyperparameter, by: float) -> None:
    after = whose.moved(0.3, by)
    assert whose.distance(0.3, after) == pytest.approx(by, rel=1e-9, abs=1e-12)
    assert whose.distance(after, 0.3) == pytest.approx(-by, rel=1e-9, abs=1e-12)
    assert whose.moved(after, -by) == pytest.approx(0.3, rel=1e-12)


def test_moves_are_of_the_value_its_logarithm_or_its_logit() -> None:
    linear, log, logit = SCALED
    assert linear.moved(0.3, -0.5) == pytest.approx(-0.2)
    assert log.moved(0.3, math.log(2)) == pytest.approx(0.6)
    assert logit.moved(0.5, math.log(3)) == pytest.approx(0.75)


@pytest.mark.parametrize("by", [1e3, 1e300, -1e3, -1e300])
@pytest.mark.parametrize("whose", SCALED[1:], ids=lambda each: each.scale)
def test_scales_keep_within_their_edges_whatever_the_move(whose: Hyperparameter, by: float) -> None:
    edges = {"log": (sys.float_info.min, sys.float_info.max), "logit": (EDGE, 1 - EDGE)}
    low, high = edges[whose.scale]
    value = 0.3
    for _ in range(3):
        before, value = value, whose.moved(value, by)
        assert low <= value <= high
        assert math.isfinite(whose.distance(before, value))
    assert value == pytest.approx(high if by > 0 else low, rel=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_distance_between_the_edges_of_a_log_scale_is_a_number(sign: int) -> None:
    low, high = SCALED[1].range
    wanted = math.log(high) - math.log(low)
    found = SCALED[1].distance(low, high) if sign > 0 else SCALED[1].distance(high, low)
    assert found == pytest.approx(sign * wanted)


@pytest.mark.parametrize("scale", ["linear", "log", "logit"])
def test_bounds_hold_on_every_scale(scale: str) -> None:
    whose = Hyperparameter("a", start=0.3, scale=scale, low=0.2, high=0.4)
    assert whose.range == (0.2, 0.4)
    assert whose.moved(0.3, 9.0) == 0.4
    assert whose.moved(0.3, -9.0) == 0.2
    assert 0.2 < whose.moved(0.3, 0.01) < 0.4


def test_bounds_wider_than_the_scale_are_the_scales() -> None:
    wide = Hyperparameter("a", start=0.3, scale="logit", low=-1.0, high=2.0)
    assert wide.range == (EDGE, 1 - EDGE)
    assert Hyperparameter("a", start=0.3, scale="log", low=0.0).range[0] == sys.float_info.min


@pytest.mark.parametrize("h", [-1.0, 1.0])
@pytest.mark.parametrize(("scale", "first_move"), [("logit", 1.0), ("log", 100.0), ("linear", 1.0)])
def test_hundreds_of_outer_steps_the_same_way_stay_numbers(
    scale: str, first_move: float, h: float
) -> None:
    whose = Hyperparameter("a", start=0.5, first_move=first_move, scale=scale)
    state, columns = start([whose])
    for _ in range(800):
        state = sign_descent(state, [h], columns)
        low, high = whose.range
        assert low <= state.values[0] <= high
        assert all(map(math.isfinite, (*state.values, *state.moves)))
    if scale != "linear":
        assert state.moves == pytest.approx((0.0,), abs=1e-9)  # at its edge
        assert not has_converged(state, 0.05, columns)  # a step size there is relative already


# What they are set for


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    inputs, labels = load_digits(return_X_y=True)
    return torch.as_tensor(inputs) / 8 - 1, torch.as_tensor(labels)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Linear(64, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 10)
    return nn.Sequential(*layers).double()


def bind(*declared: Hyperparameter, rule: Rule | None = None) -> None:
    optimizer = InnerOptimizer(rule or sgd(), declared)
    optimizer.bind(FlatModel(network(), Objective(cross_entropy)), optimizer.start())


RATE = Hyperparameter("learning_rate", 2, (0.1, 0.05))


def head(name: str, parameter: nn.Parameter | None = None) -> bool:
    return name.startswith("3.")


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (
            (
                RATE,
                Hyperparameter("a", 1, 0.1, sets="label_smoothing"),
                Hyperparameter("b", 1, 0.3, sets="label_smoothing"),
            ),
            "a and b set label_smoothing of the loss: one must do",
        ),
        (
            (
                RATE,
                Hyperparameter("label_smoothing", 1, 0.1),
                Hyperparameter("b", 1, 0.3, sets="label_smoothing", learned=False),
            ),
            "label_smoothing and b set label_smoothing of the loss",
        ),
        (
            (RATE, Hyperparameter("b", 1, 0.3, sets="learning_rate", where=head)),
            "learning_rate and b set learning_rate for the same parameters: make them disjoint",
        ),
        (
            (Hyperparameter("b", 1, 0.3, sets="learning_rate", where=head),),
            "sgd needs a learning_rate for every parameter",
        ),
        ((Hyperparameter("momentum", 1, 0.3),), "sgd needs a learning_rate for every parameter"),
        (
            (RATE, Hyperparameter("b", 1, 0.3, sets="momentum", where=lambda name, p: False)),
            "`where` of b is true for no parameter of the network",
        ),
        (
            (RATE, Hyperparameter("b", 1, 0.3, sets="label_smoothing", where=head)),
            "b has a `where`, but sgd takes no label_smoothing: it takes learning_rate, momentum",
        ),
        (
            (RATE, Hyperparameter("momentum", Vector(3), 0.3)),
            "momentum has 3 entries a step: a value of sgd is a number",
        ),
    ],
)
def test_what_is_set_twice_or_not_at_all_is_refused(declared: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bind(*declared)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two hyperparameters are named 'learning_rate': give"):
        InnerOptimizer(sgd(), (RATE, RATE))


def test_a_schedule_without_what_is_declared_is_refused() -> None:
    optimizer = InnerOptimizer(sgd(), (RATE, Hyperparameter("momentum", 1, 0.5)))
    with pytest.raises(ValueError, match="the schedule has no momentum, though it is declared"):
        optimizer.bind(FlatModel(network()), Schedule({"learning_rate": (0.1,)}))


# Fixed values, and groups


HORIZON, BATCH = 7, 16


class Data:
    def __init__(self, digits: tuple[Tensor, Tensor]) -> None:
        self.images, self.labels = digits

    def part(self, first: int, stop: int) -> tuple[Tensor, Tensor]:
        return self.images[first:stop], self.labels[first:stop]

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        return self.part(BATCH * step, BATCH * (step + 1))

    @property
    def validation(self) -> list[tuple[Tensor, Tensor]]:
        return [self.part(600, 650), self.part(650, 670)]


def smoothed(module: nn.Module, batch: tuple, values: dict[str, Tensor]) -> Tensor:
    """Written out: the oracle's loss, and validation's without values."""
    logs = F.log_softmax(module(batch[0]), dim=1)
    hard = F.nll_loss(logs, batch[1])
    s = values.get("label_smoothing", 0.0)
    return (1 - s) * hard - s * logs.mean()


def ours(mode: str, data: Data, optimizer: InnerOptimizer) -> Hypergradients:
    model = FlatModel(network(), Objective(cross_entropy))
    given = model, model.theta(), data.at, data.validation, optimizer.start(), HORIZON
    if mode == "reverse":
        return reverse.hypergradients(*given, ReverseOptions(), optimizer)
    return forward.hypergradients(*given, ForwardOptions(), optimizer=optimizer)


def assert_equal(
    found: Hypergradients,
    data: Data,
    update: unrolled.Update,
    coefficients: dict[str, Coefficients],
    defaults: dict[str, float],
    learned: list[str],
) -> None:
    expected = unrolled.unrolled(
        network(),
        smoothed,
        smoothed,
        data.at,
        data.validation,
        update,
        coefficients,
        HORIZON,
        defaults=defaults,
    )
    pairs = zip(found.values, found.contributing, strict=True)
    summed = torch.tensor([h * steps for h, steps in pairs], dtype=torch.float64)
    wanted = torch.cat([expected.hypergradients[name] for name in learned])
    assert bool((wanted != 0).all())
    torch.testing.assert_close(summed, wanted, rtol=1e-9, atol=1e-9 * float(wanted.abs().max()))
    theta = torch.cat([own.reshape(-1) for own in expected.parameters.values()])
    torch.testing.assert_close(found.state.theta, theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_fixed_values_are_used_and_have_no_hypergradient(
    mode: str, digits: tuple[Tensor, Tensor]
) -> None:
    """Of the optimiser, of a group, over a basis, and of the loss: all the same."""
    data = Data(digits)
    optimizer = InnerOptimizer(
        adamw(),
        (
            Hyperparameter("body", 2, (0.02, 0.01), sets="learning_rate", where=not_head),
            Hyperparameter(
                "head", Hats(3), (0.03, 0.01, 0.02), sets="learning_rate", where=head, learned=False
            ),
            Hyperparameter("beta1", 1, 0.8, learned=False),
            Hyperparameter("epsilon", 1, 1e-3, learned=False),
            Hyperparameter("label_smoothing", 2, (0.1, 0.2), learned=False),
        ),
    )
    assert list(optimizer.start()) == ["body"]
    assert [each.name for each in optimizer.learned()] == ["body"]
    one, two = unrolled.windows(1), unrolled.windows(2)
    hats = unrolled.hats(3)
    coefficients = {
        "body": Coefficients((0.02, 0.01), two, "learning_rate", not_head),
        "head": Coefficients((0.03, 0.01, 0.02), hats, "learning_rate", head),
        "beta1": Coefficients((0.8,), one, "beta1"),
        "epsilon": Coefficients((1e-3,), one, "epsilon"),
        "label_smoothing": Coefficients((0.1, 0.2), two, "label_smoothing"),
    }
    found = ours(mode, data, optimizer)
    defaults = dict(adamw().defaults)
    assert_equal(found, data, unrolled.adamw(), coefficients, defaults, ["body"])


def not_head(name: str, parameter: nn.Parameter | None = None) -> bool:
    return not head(name)


def descent(
    g: Tensor, theta: Tensor, slots: tuple, values: dict, step: int | Tensor
) -> tuple[Tensor, tuple]:
    return theta - values["rate"] * g, slots


def descent_theirs(g: Tensor, p: Tensor, kept: dict, value: unrolled.Values, t: int) -> tuple:
    return p - value("rate") * g, {}


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("rates", [(0.0,), (0.0, 0.05), (0.05, 0.0)])
def test_the_rest_moves_at_the_default_where_a_group_stands_still(
    rates: tuple[float, ...], mode: str, digits: tuple[Tensor, Tensor]
) -> None:
    data = Data(digits)
    rule = Rule(descent, {"rate": 0.05}, (), rate="rate")
    count = len(rates)
    optimizer = InnerOptimizer(
        rule,
        (
            Hyperparameter("head", count, rates, sets="rate", where=head),
            Hyperparameter("label_smoothing", count, 0.1),
        ),
    )
    assert optimizer.moves_at_start
    weight = unrolled.windows(count)
    coefficients = {
        "head": Coefficients(rates, weight, "rate", head),
        "label_smoothing": Coefficients((0.1,) * count, weight, "label_smoothing"),
    }
    found = ours(mode, data, optimizer)
    learned = ["head", "label_smoothing"]
    assert_equal(found, data, descent_theirs, coefficients, {"rate": 0.05}, learned)


@dataclass(frozen=True)
class InParts:
    """A basis of the user's own that names one function twice in a step."""

    count: int = 2
    size: int = 1

    def weights(self, step: int, horizon: int) -> tuple[tuple[int, float], ...]:
        return (0, 0.25), (1, (step + 1) / horizon), (0, 0.75)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_the_parts_of_a_function_add_up(mode: str, digits: tuple[Tensor, Tensor]) -> None:
    data = Data(digits)
    optimizer = InnerOptimizer(
        sgd(),
        (Hyperparameter("learning_rate", InParts(), (0.05, 0.02)), Hyperparameter("momentum")),
    )
    coefficients = {
        "learning_rate": Coefficients(
            (0.05, 0.02), lambda i, t, T: (t + 1) / T if i else 1.0, "learning_rate"
        ),
        "momentum": Coefficients((0.0,), unrolled.windows(1), "momentum"),
    }
    defaults = dict(sgd().defaults)
    assert_equal(
        ours(mode, data, optimizer), data, unrolled.sgd(), coefficients, defaults, [*coefficients]
    )


def test_nothing_moves_where_all_rates_are_zero_at_the_start() -> None:
    rule = Rule(descent, {"rate": 0.05}, (), rate="rate")
    everywhere = InnerOptimizer(rule, (Hyperparameter("rate", 2, 0.0),))
    assert not everywhere.moves_at_start
    assert InnerOptimizer(rule).moves_at_start
    assert not InnerOptimizer(sgd(), (Hyperparameter("learning_rate", 2, 0.0),)).moves_at_start
    assert InnerOptimizer(sgd(), (RATE,)).moves_at_start
