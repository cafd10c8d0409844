"""A user's own rule is tried before it is trusted."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules import RULES, Rule, rule_named
from hypergrad.core.rules.check import check_rule
from hypergrad.core.schedule import Schedule

Update = Callable[..., tuple[Tensor, tuple[Tensor, ...]]]


def lion(g: Tensor, theta: Tensor, slots: tuple, values: dict, step: int) -> tuple:
    (m,) = slots
    moved = theta - values["learning_rate"] * torch.sign(0.9 * m + 0.1 * g)
    return moved, (0.99 * m + 0.01 * g,)


def normalised(g: Tensor, theta: Tensor, slots: tuple, values: dict, step: int) -> tuple:
    return theta - values["learning_rate"] * g / g.norm(), slots


def in_place(g: Tensor, theta: Tensor, slots: tuple, values: dict, step: int) -> tuple:
    return theta.sub_(values["learning_rate"] * g), slots


def rule(update: Update, slots: tuple[str, ...] = (), elementwise: bool = True) -> Rule:
    return Rule(update, {"learning_rate": math.nan}, slots, elementwise=elementwise, name="mine")


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (rule(lion, ("m",)), "mine moves by signs of the gradient"),
        (rule(normalised), "mixes parameters, .*: say so with elementwise=False"),
        (rule(in_place), "changes its arguments: make it return new ones"),
    ],
)
def test_what_cannot_be_differentiated_through_is_refused(given: Rule, answer: str) -> None:
    model = FlatModel(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=answer):
        InnerOptimizer(given).bind(model, Schedule({"learning_rate": (0.1,)}))


def test_what_says_that_it_mixes_parameters_is_taken() -> None:
    check_rule(rule(normalised, elementwise=False))


@pytest.mark.parametrize("name", RULES)
def test_the_rules_of_the_house_pass(name: str) -> None:
    check_rule(rule_named(name))


@pytest.mark.parametrize("name", ["lion", "SignSGD", "rprop"])
def test_sign_based_optimizers_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} moves by signs, whose derivative is zero"):
        rule_named(name)


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="no optimizer 'adan': use one of sgd, adam, adamw"):
        rule_named("adan")
    with pytest.raises(ValueError, match="optimizer sgd: .*amsgrad"):
        rule_named("sgd", {"amsgrad": True})
    with pytest.raises(ValueError, match=r"nesterov with dampening=0.1: use dampening=0"):
        rule_named("sgd", {"nesterov": True, "dampening": 0.1})


def test_a_square_root_of_nothing_is_refused() -> None:
    def update(g: Tensor, theta: Tensor, slots: tuple, values: dict, step: int) -> tuple:
        u = 0.9 * slots[0] + 0.1 * g * g
        return theta - values["learning_rate"] * g / (torch.sqrt(u) + 1e-8), (u,)

    rule = Rule(update, {"learning_rate": math.nan}, ("u",), rate="learning_rate", name="own")
    with pytest.raises(ValueError, match="use hypergrad.core.rules.safe_sqrt"):
        check_rule(rule)
