"""Every network of the zoo, in every mode and precision: exact, or refused by name."""

from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch
import unrolled
from places import ROOT
from unrolled import Coefficients
from zoo import outcome as outcomes
from zoo.network import Network, cross_entropy
from zoo.networks import ALL
from zoo.outcome import MODES, TYPES, outcome
from zoo.table import cells, rows, tried
from zoo.truth import HORIZON, SCHEDULE, batch_at, held_out, train, truth

QUICK = (
    "a plain chain",
    "tied weights",
    "batch norm frozen by .eval()",
    "TransformerEncoderLayer",
    "GRU",
    "checkpoint, non-reentrant",
    "tanh_ through a view of a convolution",
    "F.dropout",
    "a counter in Python",
    "a scale under no_grad",
    "weight_norm, parametrised",
    "an output with its loss",
)
QUICK_MODES = ("loop", "vmap", "fused", "reverse")


def combinations() -> list:
    """All of them; the thin slice without the mark `slow`."""
    return [
        pytest.param(
            name,
            mode,
            precision,
            marks=()
            if name in QUICK and mode in QUICK_MODES and precision == "float64"
            else pytest.mark.slow,
        )
        for name in ALL
        for mode in MODES
        for precision in TYPES
    ]


@pytest.mark.parametrize(("name", "mode", "precision"), combinations())
def test_is_exact_or_refused_by_name(name: str, mode: str, precision: str) -> None:
    found = outcome(ALL[name], mode, precision)
    assert found.kind in ("exact", "refused"), found.text
    if ALL[name].expected == "refused":
        assert found.kind == "refused"
    if ALL[name].expected == "exact" and mode == "loop":
        assert found.kind == "exact", found.text


# The truth


def unrolled_truth(network: Network) -> torch.Tensor:
    """By autograd through the whole training."""
    double = torch.float64
    bases = {
        name: Coefficients(values, unrolled.windows(len(values)), name)
        for name, values in SCHEDULE.items()
    }
    loss: Any = cross_entropy
    found = unrolled.unrolled(
        network.build(double),
        loss,
        loss,
        lambda step: batch_at(network, step, double),
        held_out(network, double),
        unrolled.sgd(),
        bases,
        HORIZON,
        defaults={"learning_rate": 0.0, "momentum": 0.0, "weight_decay": 0.0},
    )
    return torch.cat(list(found.hypergradients.values()))


@pytest.mark.parametrize("name", ["a plain chain", "tied weights", "GRU", "layer norm"])
def test_differences_of_trainings_equal_the_derivative_of_an_unrolled_one(name: str) -> None:
    found = truth(ALL[name])
    torch.testing.assert_close(
        found.hypergradients, unrolled_truth(ALL[name]), rtol=1e-8, atol=1e-10
    )


def test_the_same_training_ends_in_the_same_place() -> None:
    values = torch.tensor([v for own in SCHEDULE.values() for v in own], dtype=torch.float64)
    for name in ("Dropout", "stochastic depth by Python's random", "a counter in Python"):
        first, second = (train(ALL[name], values) for _ in range(2))
        assert first.loss == second.loss
        assert torch.equal(first.weights, second.weights)


def test_batch_norm_left_in_training_mode_is_judged_by_batch_statistics() -> None:
    values = torch.zeros(5, dtype=torch.float64)
    network = ALL["batch norm, training"]
    module = network.build(torch.float64)
    with torch.no_grad():
        losses = [float(cross_entropy(module, b, {})) for b in held_out(network, torch.float64)]
    assert train(network, values).loss == pytest.approx((5 * losses[0] + 8 * losses[1]) / 13)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, own in ALL.items() if own.expected != "refused"])
def test_every_truth_is_known_and_is_not_nothing(name: str) -> None:
    found = truth(ALL[name])
    assert found.hypergradients.abs().min() > 1e-4 * found.hypergradients.abs().max()
    assert len(found.weights) <= 320


# What is no refusal, and what is not exact


def raising(error: Exception) -> object:
    def hypergradients(*_: object) -> NoReturn:
        raise error

    return hypergradients


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("the layer middle cannot be differentiated"), "refused"),
        (ValueError("strategy='vmap' does not fit"), "refused"),
        (ValueError("something went astray"), "raised"),
        (ValueError("middle\nin two lines"), "raised"),
        (RuntimeError("middle"), "raised"),
    ],
)
def test_a_refusal_is_a_value_error_of_one_line_that_names_something(
    error: Exception, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "hypergradients", raising(error))
    assert outcome(ALL["layer norm"], "loop", "float64").kind == kind


@pytest.mark.parametrize("what", ["values", "weights", "repetition"])
def test_another_number_is_seen(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = truth(ALL["layer norm"])
    calls = 0

    def hypergradients(*_: object) -> SimpleNamespace:
        nonlocal calls
        calls += 1
        values = expected.hypergradients.clone()
        values[3] += 1e-6 * (what == "values") + 1e-12 * (what == "repetition") * calls
        weights = expected.weights + 1e-8 * (what == "weights")
        return SimpleNamespace(
            values=tuple(values.tolist()),
            contributing=(1.0,) * 5,
            state=SimpleNamespace(theta=weights),
        )

    monkeypatch.setattr(outcomes, "hypergradients", hypergradients)
    assert outcome(ALL["layer norm"], "loop", "float64").kind == "wrong"


# The table


def test_the_table_of_the_documentation_has_every_network() -> None:
    listed = rows((ROOT / "docs" / "zoo.md").read_text(encoding="utf-8"))
    assert list(listed) == list(ALL)
    assert all(len(own) == len(cells({})) for own in listed.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_the_table_says_what_happens(name: str) -> None:
    listed = rows((ROOT / "docs" / "zoo.md").read_text(encoding="utf-8"))
    assert cells(tried(ALL[name])) == listed[name]
