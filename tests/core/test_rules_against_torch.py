"""Training by every rule against `torch.optim`'s own, step by step, in an ordinary loop."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
import unrolled
from sklearn.datasets import load_digits
from torch import Tensor, nn

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip, NoClip, NormClip
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.objective import supervised
from hypergrad.core.rules import Rule, adam, adamw, rmsprop, sgd
from hypergrad.core.schedule import Schedule
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import ScheduledRun

# float64: the same operations in another order, over some steps; a wrong term shows at 1e-4.
ABSOLUTE = 1e-12
HORIZON = 10

Torch = torch.optim.Optimizer
Values = Mapping[str, float]


class Case(NamedTuple):
    """A rule, the oracle's own, torch's, and the values of step `t`."""

    ours: Rule
    theirs: unrolled.Update
    torch: Callable[[list[dict[str, Any]]], Torch]
    values: Callable[[int], Values]


def _sgd_values(t: int) -> Values:
    return {
        "learning_rate": 0.05 + 0.02 * (t % 3),
        "momentum": 0.5 + 0.04 * t,
        "weight_decay": 0.01 * (t % 2),
    }


def _adam_values(t: int) -> Values:
    return {
        "learning_rate": 0.01 + 0.003 * (t % 3),
        "beta1": 0.8 + 0.01 * t,
        "beta2": 0.95 + 0.004 * t,
        "epsilon": 1e-8 * (1 + t),
        "weight_decay": 0.02 * (t % 2),
    }


def _rmsprop_values(momentum: float) -> Callable[[int], Values]:
    return lambda t: {
        "learning_rate": 0.005 + 0.001 * (t % 3),
        "smoothing": 0.9 + 0.008 * t,
        "momentum": momentum * (1 + 0.05 * t),
        "epsilon": 1e-6 * (1 + t),
        "weight_decay": 0.02 * (t % 2),
    }


def _no_momentum(t: int) -> Values:
    return {**_sgd_values(t), "momentum": 0.0}


CASES = {
    "sgd": Case(sgd(), unrolled.sgd(), lambda g: torch.optim.SGD(g, lr=1.0), _no_momentum),
    "momentum": Case(sgd(), unrolled.sgd(), lambda g: torch.optim.SGD(g, lr=1.0), _sgd_values),
    "nesterov": Case(
        sgd(nesterov=True),
        unrolled.sgd(nesterov=True),
        lambda g: torch.optim.SGD(g, lr=1.0, momentum=0.5, nesterov=True),
        _sgd_values,
    ),
    "dampening": Case(
        sgd(dampening=0.3),
        unrolled.sgd(dampening=0.3),
        lambda g: torch.optim.SGD(g, lr=1.0, dampening=0.3),
        _sgd_values,
    ),
    "adam": Case(adam(), unrolled.adam(), torch.optim.Adam, _adam_values),
    "adamw": Case(adamw(), unrolled.adamw(), torch.optim.AdamW, _adam_values),
    "rmsprop": Case(
        rmsprop(), unrolled.rmsprop(), torch.optim.RMSprop, _rmsprop_values(momentum=0.0)
    ),
    "rmsprop with momentum": Case(
        rmsprop(),
        unrolled.rmsprop(),
        # torch keeps a buffer for the momentum only where there is one at the first step
        lambda g: torch.optim.RMSprop(g, momentum=0.5),
        _rmsprop_values(momentum=0.5),
    ),
    "rmsprop centered": Case(
        rmsprop(centered=True),
        unrolled.rmsprop(centered=True),
        lambda g: torch.optim.RMSprop(g, centered=True),
        _rmsprop_values(momentum=0.0),
    ),
    "rmsprop centered with momentum": Case(
        rmsprop(centered=True),
        unrolled.rmsprop(centered=True),
        lambda g: torch.optim.RMSprop(g, centered=True, momentum=0.5),
        _rmsprop_values(momentum=0.5),
    ),
}
CLIPS: dict[str, tuple[Any, Callable, Callable[[nn.Module], object]]] = {
    "free": (NoClip(), unrolled.no_clip, lambda module: None),
    "value": (
        ElementwiseClip(0.05),
        unrolled.elementwise_clip(0.05),
        lambda module: nn.utils.clip_grad_value_(module.parameters(), 0.05),
    ),
    "norm": (
        NormClip(1.0),
        unrolled.norm_clip(1.0),
        lambda module: nn.utils.clip_grad_norm_(module.parameters(), 1.0),
    ),
}
# The head learns at another rate and decay than the rest.
HEAD_SHARE = {"learning_rate": 0.5, "weight_decay": 3.0}


class Digits:
    """Minibatches of 16 scikit-learn digits, in order."""

    steps_per_epoch = 5

    def __init__(self) -> None:
        data = load_digits()
        self._images = torch.tensor(data.data) / 8 - 1
        self._labels = torch.tensor(data.target)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        picks = slice(16 * step, 16 * step + 16)
        return self._images[picks], self._labels[picks]


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Linear(64, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 10)
    return nn.Sequential(*layers).double()


def of_head(name: str) -> bool:
    return name.startswith("3.")


def of_body(name: str) -> bool:
    return not of_head(name)


def values_of(values: Values, head: bool) -> Values:
    return {name: x * (HEAD_SHARE.get(name, 1.0) if head else 1.0) for name, x in values.items()}


def for_torch(values: Values) -> dict[str, Any]:
    """The same values under torch's names."""
    names = {
        "learning_rate": "lr",
        "smoothing": "alpha",
        "epsilon": "eps",
        "momentum": "momentum",
        "weight_decay": "weight_decay",
    }
    found: dict[str, Any] = {names[name]: x for name, x in values.items() if name in names}
    if "beta1" in values:
        found["betas"] = (values["beta1"], values["beta2"])
    return found


def torch_weights(case: Case, clip: str, grouped: bool) -> list[dict[str, Tensor]]:
    """The weights after every step of an ordinary loop."""
    module, digits, found = network().train(), Digits(), []
    named = list(module.named_parameters())
    if grouped:
        parts = [[p for name, p in named if of_head(name) == head] for head in (False, True)]
    else:
        parts = [[p for _, p in named]]
    optimizer = case.torch([{"params": part} for part in parts])
    for step in range(HORIZON):
        x, y = digits.at(step)
        optimizer.zero_grad()
        F.cross_entropy(module(x), y).backward()
        CLIPS[clip][2](module)
        for head, group in enumerate(optimizer.param_groups):
            group.update(for_torch(values_of(case.values(step), bool(head))))
        optimizer.step()
        found.append({name: p.detach().clone() for name, p in named})
    return found


def coefficients(case: Case, grouped: bool) -> dict[str, tuple[str, bool | None, list[float]]]:
    """By the hyperparameter's name: what it sets, for the head alone or not, a value a step."""
    found = {}
    for name in case.values(0):
        for head in (False, True) if grouped and name in HEAD_SHARE else (None,):
            own = [values_of(case.values(t), bool(head))[name] for t in range(HORIZON)]
            part = {None: "", False: "body_", True: "head_"}[head]
            found[part + name] = (name, head, own)
    return found


@pytest.mark.parametrize("grouped", [False, True], ids=["global", "per group"])
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("rule", CASES)
def test_the_weights_are_torchs_after_every_step(rule: str, clip: str, grouped: bool) -> None:
    case, digits = CASES[rule], Digits()
    declared = coefficients(case, grouped)
    where = {
        None: None,
        False: lambda name, parameter: of_body(name),
        True: lambda name, parameter: of_head(name),
    }
    optimizer = InnerOptimizer(
        case.ours,
        tuple(
            Hyperparameter(name, HORIZON, sets=sets, where=where[head])
            for name, (sets, head, _) in declared.items()
        ),
        CLIPS[clip][0],
    )
    schedule = Schedule({name: own for name, (_, _, own) in declared.items()})
    model = FlatModel(network(), supervised())
    run = ScheduledRun(InnerProblem(model, model.theta(), digits, HORIZON, optimizer), schedule)
    for step, expected in enumerate(torch_weights(case, clip, grouped)):
        run.advance()
        for name, own in model.parameters(run.state.theta).items():
            error = float((own - expected[name]).abs().max())
            assert error <= ABSOLUTE, f"{name} is {error:.1e} off after step {step}"


@pytest.mark.parametrize("grouped", [False, True], ids=["global", "per group"])
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("rule", CASES)
def test_the_oracles_loop_is_torchs_too(rule: str, clip: str, grouped: bool) -> None:
    """What hypergradients are tested against is itself tested, on nothing of the library."""
    case, digits = CASES[rule], Digits()
    where = {None: None, False: of_body, True: of_head}

    def loss(module: Callable[[Tensor], Tensor], batch: tuple, values: Mapping) -> Tensor:
        return F.cross_entropy(module(batch[0]), batch[1])

    found = unrolled.unrolled(
        network(),
        loss,
        loss,
        digits.at,
        [digits.at(HORIZON)],
        case.theirs,
        {
            name: unrolled.Coefficients(tuple(own), unrolled.windows(HORIZON), sets, where[head])
            for name, (sets, head, own) in coefficients(case, grouped).items()
        },
        HORIZON,
        defaults=dict.fromkeys(case.values(0), float("nan")),
        clip=CLIPS[clip][1],
    )
    for name, expected in torch_weights(case, clip, grouped)[-1].items():
        torch.testing.assert_close(found.parameters[name], expected, rtol=0, atol=ABSOLUTE)


def test_the_oracles_hypergradients_are_central_differences() -> None:
    digits, width = Digits(), 1e-6

    def loss(module: Callable[[Tensor], Tensor], batch: tuple, values: Mapping) -> Tensor:
        return F.cross_entropy(module(batch[0]), batch[1]) * values.get("weight", 1.0)

    def run(starts: dict[str, list[float]]) -> unrolled.Unrolled:
        return unrolled.unrolled(
            network(),
            loss,
            loss,
            digits.at,
            [digits.at(HORIZON), digits.at(HORIZON + 1)],
            unrolled.adamw(),
            {
                name: unrolled.Coefficients(tuple(own), unrolled.hats(2), name)
                for name, own in starts.items()
            },
            HORIZON,
            defaults={**_adam_values(0)},
            clip=unrolled.norm_clip(1.0),
        )

    starts = {
        "learning_rate": [0.02, 0.01],
        "beta2": [0.95, 0.97],
        "weight_decay": [0.1, 0.05],
        "epsilon": [2e-3, 1e-3],
        "weight": [1.0, 0.8],
    }
    found = run(starts).hypergradients
    for name, own in starts.items():
        for i in range(len(own)):
            up, down = copy.deepcopy(starts), copy.deepcopy(starts)
            up[name][i] += width
            down[name][i] -= width
            slope = (run(up).loss - run(down).loss) / (2 * width)
            # The error is of order width^2, plus 1e-16 of rounding over the width.
            assert float(found[name][i]) == pytest.approx(slope, rel=1e-5, abs=1e-8)
