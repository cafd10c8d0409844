"""Weights of training examples and of groups: as many values as one likes, in reverse mode."""

from functools import cache
from statistics import median

import pytest
import torch
import torch.nn.functional as F
import unrolled
from sklearn.datasets import load_digits
from torch import Tensor, nn
from unrolled import Coefficients, Tensors, Unrolled

from hypergrad import learn
from hypergrad.core.basis import Basis, Hats, Vector, Windows
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.losses import cross_entropy
from hypergrad.core.objective import Objective, accuracy
from hypergrad.core.rules import Rule, adamw, sgd
from hypergrad.data.sources import TensorBatches
from hypergrad.differentiation.result import Hypergradients
from hypergrad.differentiation.reverse import ReverseOptions, hypergradients

RELATIVE = 1e-9  # float64 sums in another order: see test_general.py
EXAMPLES, GROUPS, BATCH = 1000, 64, 40
HORIZON = EXAMPLES // BATCH  # every example is seen once

RULES: dict[str, tuple[Rule, unrolled.Update]] = {
    "sgd": (sgd(), unrolled.sgd()),
    "adamw": (adamw(), unrolled.adamw()),
}
RATES = {"sgd": 0.1, "adamw": 0.01}


@cache
def digits(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.data, dtype=dtype) / 8 - 1, torch.tensor(data.target)


@cache
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Linear(64, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 10)
    return nn.Sequential(*layers).double()


@cache
def batches() -> TensorBatches:
    """Of dicts with each example's number, and its group."""
    images, labels = digits()
    tree = {"inputs": images[:EXAMPLES], "labels": labels[:EXAMPLES], "group": groups(EXAMPLES)}
    return TensorBatches(tree, BATCH, (0, "many"), with_index=True)


def groups(count: int) -> Tensor:
    return torch.arange(count) % GROUPS


def validation() -> list[tuple[Tensor, Tensor]]:
    images, labels = digits()
    return [(images[1000:1200], labels[1000:1200]), (images[1200:1260], labels[1200:1260])]


def weighted(module: nn.Module, batch: dict[str, Tensor], values: Tensors) -> Tensor:
    """The loss written out."""
    each = F.cross_entropy(module(batch["inputs"]), batch["labels"], reduction="none")
    if "example_weights" in values:
        each = values["example_weights"][batch["index"]] * each
    if "group_weights" in values:
        each = values["group_weights"][batch["group"]] * each
    return each.mean()


def plain(module: nn.Module, batch: tuple[Tensor, Tensor], values: Tensors) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1])


def start(count: int) -> tuple[float, ...]:
    """Around one, all different."""
    return tuple((0.8 + 0.4 * (torch.arange(count) * 0.618 % 1)).tolist())


def ours(rule: str, name: str, basis: Basis) -> tuple[FlatModel, Hypergradients]:
    model = FlatModel(network(), Objective(cross_entropy))
    rate = Hyperparameter("learning_rate", 1, RATES[rule])
    many = Hyperparameter(name, basis, start(basis.count * basis.size))
    optimizer = InnerOptimizer(RULES[rule][0], (rate, many))
    given = model, model.theta(), batches().at, validation(), optimizer.start(), HORIZON
    return model, hypergradients(*given, ReverseOptions(), optimizer)


def theirs(rule: str, name: str, size: int, count: int, weight: unrolled.Weight) -> Unrolled:
    learned = {
        "learning_rate": Coefficients((RATES[rule],), unrolled.windows(1), "learning_rate"),
        name: Coefficients(start(size * count), weight, name, size=size),
    }
    mine, update = RULES[rule]
    given = network(), weighted, plain, batches().at, validation(), update, learned, HORIZON
    return unrolled.unrolled(*given, defaults={**mine.defaults})


def assert_equal(found: tuple[FlatModel, Hypergradients], expected: Unrolled, name: str) -> None:
    model, result = found
    for own, weights in model.parameters(result.state.theta).items():
        torch.testing.assert_close(weights, expected.parameters[own], rtol=0, atol=1e-12)
    pairs = zip(result.values, result.contributing, strict=True)
    summed = torch.tensor([h * steps for h, steps in pairs], dtype=torch.float64)
    own = expected.hypergradients[name]
    assert len(own) == len(summed) - 1
    assert bool((own != 0).all()), "a value without influence: it is not tested"
    assert float((summed[1:] - own).abs().max() / own.abs().max()) <= RELATIVE
    rate = expected.hypergradients["learning_rate"]
    assert float(summed[0]) == pytest.approx(float(rate), rel=RELATIVE)


@pytest.mark.parametrize("rule", RULES)
def test_a_weight_for_each_of_a_thousand_examples_equals_the_unrolled_loop(rule: str) -> None:
    found = ours(rule, "example_weights", Vector(EXAMPLES))
    expected = theirs(rule, "example_weights", EXAMPLES, 1, unrolled.windows(1))
    assert_equal(found, expected, "example_weights")


BASES = {
    "constant": (Windows(1), unrolled.windows(1)),
    "two windows": (Windows(2), unrolled.windows(2)),
    "three hats": (Hats(3), unrolled.hats(3)),  # knots at whole steps
}


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("rule", RULES)
def test_weights_of_groups_equal_the_unrolled_loop(rule: str, basis: str) -> None:
    over, weight = BASES[basis]
    found = ours(rule, "group_weights", Vector(GROUPS, over))
    expected = theirs(rule, "group_weights", GROUPS, over.count, weight)
    assert_equal(found, expected, "group_weights")


def test_chunks_and_checkpoints_change_nothing_about_a_thousand_values() -> None:
    model, whole = ours("adamw", "example_weights", Vector(EXAMPLES))
    rate = Hyperparameter("learning_rate", 1, RATES["adamw"])
    many = Hyperparameter("example_weights", Vector(EXAMPLES), start(EXAMPLES))
    optimizer = InnerOptimizer(adamw(), (rate, many))
    # Weights and two moments of 474 parameters: 12 states at most, of 25.
    options = ReverseOptions(memory_gb=12 * 3 * 8 * len(model.theta()) / 1e9, validation_chunks=2)
    given = model, model.theta(), batches().at, validation(), optimizer.start(), HORIZON
    found = hypergradients(*given, options, optimizer)
    a, b = (torch.tensor(each.values, dtype=torch.float64) for each in (whole, found))
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10 * float(a[1:].abs().max()))


WRONG = range(16)  # groups with mostly wrong labels


def corrupted() -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
    """1,280 digits in 64 groups of 20; in the first 16 groups 16 of 20 labels are wrong."""
    images, labels = digits(torch.float32)
    group = groups(20 * GROUPS)
    place = torch.arange(20 * GROUPS) // GROUPS  # within its group
    wrong = (group < len(WRONG)) & (place < 16)
    shifted = (labels[: 20 * GROUPS] + 1 + place % 9) % 10
    given = torch.where(wrong, shifted, labels[: 20 * GROUPS])
    assert int((given != labels[: 20 * GROUPS]).sum()) == 16 * 16
    tree = {"inputs": images[: 20 * GROUPS], "labels": given, "group": group}
    return tree, [(images[1280:], labels[1280:])]


def test_groups_with_wrong_labels_lose_their_weight() -> None:
    tree, held_out = corrupted()
    torch.manual_seed(0)
    optimizer = InnerOptimizer(
        adamw(),
        (
            Hyperparameter("learning_rate", start=0.01, learned=False),
            Hyperparameter("group_weights", Vector(GROUPS), 1.0, first_move=0.3, low=0.0),
        ),
    )
    history = learn(
        nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)),
        Objective(cross_entropy, metric=accuracy),
        TensorBatches(tree, 64, (0, "wrong")),
        held_out,
        epochs=4,
        optimizer=optimizer,
        outer_steps=3,
        options=ReverseOptions(),
    )
    assert len(history) == 3
    after = history[-1].after.state
    assert after is not None
    weights = after.values
    assert all(weight >= 0 for weight in weights)
    wrong, clean = weights[: len(WRONG)], weights[len(WRONG) :]
    assert max(wrong) < median(clean)
    assert sum(wrong) / len(wrong) < sum(clean) / len(clean) - 0.3
    assert history[-1].validation_loss < history[0].validation_loss
