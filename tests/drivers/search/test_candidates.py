"""What a search tries."""

import pytest

from hypergrad.config.composition import compose
from hypergrad.core.schedule import Schedule
from hypergrad.drivers.search.candidates import candidates, count_of


def test_the_grid_of_the_paper_has_135_settings() -> None:
    config, _ = compose("baselines/cifar10")
    found = list(candidates(config, seed=0))
    assert len(found) == len(set(found)) == count_of(config) == 135
    assert [c.number for c in found] == list(range(135))
    assert {c.learning_rate for c in found} == {(0.05,), (0.1,), (0.2,), (0.4,), (0.6,)}
    assert {c.factor for c in found} == {0.1, 0.2, 0.4}
    assert {c.momentum for c in found} == {(0.45,), (0.9,), (0.99,)}
    assert {c.weight_decay for c in found} == {(2.5e-4,), (5e-4,), (1e-3,)}
    assert {c.milestones for c in found} == {(0.3, 0.6, 0.8)}
    assert found == list(candidates(config, seed=7))
    (common,) = [
        c
        for c in found
        if (*c.learning_rate, c.factor, *c.momentum, *c.weight_decay) == (0.2, 0.2, 0.9, 5e-4)
    ]
    rates = common.over(10)["learning_rate"]
    assert rates == pytest.approx([0.2] * 3 + [0.04] * 3 + [0.008] * 2 + [0.0016] * 2)
    assert str(common) == "multistep α 0.2 η 0.2 β 0.9 μ 0.0005"


def test_the_grids_of_mnist_and_svhn_are_five_cosines() -> None:
    for name in ("mnist", "svhn"):
        config, _ = compose(f"baselines/{name}")
        found = list(candidates(config, seed=0))
        assert [c.learning_rate for c in found] == [(0.05,), (0.1,), (0.2,), (0.4,), (0.6,)]
        assert {(c.schedule, c.momentum, c.weight_decay, c.factor) for c in found} == {
            ("cosine", (0.0,), (0.0,), None)
        }
        assert found[0].over(4)["learning_rate"] == pytest.approx(
            [0.05, 0.05 * 0.853553, 0.025, 0.05 * 0.146447], rel=1e-5
        )


def test_random_settings_are_a_function_of_seed_and_place_and_fill_the_ranges() -> None:
    config, _ = compose("baselines/cifar10", ["search=random", "search.trials=300"])
    found = list(candidates(config, seed=1))
    assert found == list(candidates(config, seed=1))
    assert len(found) == len(set(found)) == 300
    few, _ = compose("baselines/cifar10", ["search=random", "search.trials=5"])
    assert list(candidates(few, seed=1)) == found[:5]
    assert not set(list(candidates(few, seed=2))) & set(found)
    assert [list(c.over(70).counts.values()) for c in found] == [[7, 1, 1]] * len(found)
    for kind, low, high in [
        ("learning_rate", -0.1, 1.0),
        ("momentum", 0.0, 1.2),
        ("weight_decay", 0.0, 4e-3),
    ]:
        values = [value for c in found for value in getattr(c, kind)]
        width = high - low
        assert low <= min(values) < low + 0.03 * width
        assert high - 0.03 * width < max(values) <= high
        assert sum(values) / len(values) == pytest.approx((low + high) / 2, abs=0.05 * width)
    assert isinstance(found[0].over(100), Schedule)


def test_hypergradient_descent_begins_anew_after_all_its_rates() -> None:
    config, _ = compose("baselines/mnist", ["search=hd", "search.trials=8"])
    found = list(candidates(config, seed=0))
    rates = config.search.hyper_learning_rates
    assert rates[0] == 0.2
    assert [c.outer_learning_rate for c in found] == [*rates, *rates][:8]
    assert [c.restart for c in found] == [0] * 6 + [1] * 2
    assert str(found[7]) == "outer rate 0.1 restart 1"
