"""Random search where TPE and Hyperband search."""

import math
from itertools import islice

import pytest

from hypergrad.config.composition import compose
from hypergrad.config.schema import RunConfig
from hypergrad.drivers.search.candidates import Candidate, candidates


def composed(*more: str, kind: str = "random_space") -> RunConfig:
    return compose("baselines/mnist", [f"search={kind}", "search.trials=400", *more])[0]


def test_it_draws_evenly_on_the_scales_of_the_space() -> None:
    config = composed("search.space.learning_rate=[0.01,1.0]", "search.space.momentum=[0.0,0.99]")
    found = list(candidates(config, 3))
    assert [c.number for c in found] == list(range(400))
    assert found == list(candidates(config, 3))
    rates = sorted(math.log10(c.learning_rate[0]) for c in found)
    momenta = sorted(math.log10(1 - c.momentum[0]) for c in found)
    for own in (rates, momenta):  # both from a hundredth to one: evenly in logarithms
        assert own[0] >= -2
        assert own[-1] <= 0
        assert own[200] == pytest.approx(-1, abs=0.15)
        assert own[100] == pytest.approx(-1.5, abs=0.15)


def test_every_seed_has_a_search_of_its_own_and_a_longer_one_begins_alike() -> None:
    first, second = (list(islice(candidates(composed(), seed), 5)) for seed in (0, 1))
    assert not set(first) & set(second)
    assert list(candidates(composed("search.trials=5"), 0)) == first


def test_its_settings_are_of_the_group_baseline_as_those_of_the_others() -> None:
    def form(c: Candidate) -> tuple:
        return c.schedule, c.factor, c.milestones

    for baseline in ("multistep", "cosine"):
        own = composed(f"baseline={baseline}")
        other = composed(
            f"baseline={baseline}", "search.min_epochs=1", "epochs=2", kind="hyperband"
        )
        (a,) = islice(candidates(own, 0), 1)
        (b,) = islice(candidates(other, 0), 1)
        assert form(a) == form(b)
        assert a.epochs is None  # a whole training
