"""How Hyperband shares its epochs out, and what it tries."""

import math

import pytest

from hypergrad.config.composition import compose
from hypergrad.config.schema import RunConfig
from hypergrad.drivers.search.candidates import Candidate, candidates
from hypergrad.drivers.search.hyperband import brackets, promoted
from hypergrad.drivers.search.space import bounds_of, values_at


def composed(*more: str, epochs: int = 9) -> RunConfig:
    given = ["search=hyperband", f"epochs={epochs}", "search.trials=22", *more]
    return compose("baselines/mnist", given)[0]


def test_the_brackets_are_those_of_the_paper() -> None:
    # Li et al. (2018), Table 1: R = 81, eta = 3
    found = [[tuple(rung) for rung in rungs] for rungs in brackets(81, 1, 3)]
    assert found == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


def test_a_horizon_that_no_power_divides_ends_whole() -> None:
    for rungs in brackets(20, 1, 3):
        assert rungs[-1].epochs == 20
    assert [rung.epochs for rung in brackets(20, 1, 3)[0]] == [2, 7, 20]
    assert brackets(1, 1, 3) == [[(1, 1)]]


def test_the_best_go_on_and_what_lost_its_numbers_does_not() -> None:
    scores = [(-math.inf, -math.inf), (0.5, -1.0), (0.5, -0.9), (0.2, -3.0)]
    assert promoted(scores, 1) == [2]
    assert promoted(scores, 3) == [1, 2, 3]


def rate_of(candidate: Candidate) -> tuple[float, float]:
    return candidate.learning_rate[0], 0.0


def test_a_rung_is_not_known_before_the_one_below_it_is_finished() -> None:
    first = list(candidates(composed(), 0))
    assert [c.epochs for c in first] == [1] * 9
    assert list(candidates(composed(), 0, lambda c: None if c.number == 8 else rate_of(c))) == first
    more = list(candidates(composed(), 0, lambda c: None if c.epochs == 3 else rate_of(c)))
    assert [c.epochs for c in more[9:]] == [3] * 3
    best = sorted((rate_of(c)[0] for c in first), reverse=True)[:3]
    assert sorted((rate_of(c)[0] for c in more[9:]), reverse=True) == best


def test_a_whole_search_has_other_settings_in_each_bracket_and_ends_by_its_count() -> None:
    found = list(candidates(composed(), 0, rate_of))
    assert [c.epochs for c in found] == [1] * 9 + [3] * 3 + [None] + [3] * 5 + [None] + [None] * 3
    assert [c.number for c in found] == list(range(22))
    assert len({c.learning_rate for c in found}) == 9 + 5 + 3
    other = list(candidates(composed(), 1, rate_of))
    assert not {c.learning_rate for c in found} & {c.learning_rate for c in other}
    longer = list(candidates(composed("search.trials=30"), 0, rate_of))
    assert longer[:22] == found
    assert longer[22].epochs == 1


def test_a_whole_training_is_named_as_ever_and_a_short_one_is_another() -> None:
    whole = Candidate(0, "cosine", (0.1,), (0.9,), (1e-4,))
    assert "epochs" not in whole.as_dict()
    assert Candidate(0, "cosine", epochs=3).as_dict()["epochs"] == 3


def test_points_are_even_on_logarithmic_scales_and_within_their_bounds() -> None:
    bounds = bounds_of(composed().search.space)
    assert values_at(bounds, (0.0, 0.0, 0.0)) == (1e-3, 0.0, 1e-6)
    assert values_at(bounds, (1.0, 1.0, 1.0)) == (1.0, 0.99, 1e-2)
    rate, momentum, decay = values_at(bounds, (1 / 3, 0.5, 0.25))
    assert (rate, momentum, decay) == pytest.approx((1e-2, 0.9, 1e-5), rel=1e-9)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("search.space.learning_rate=[0,1]", "logarithmic"),
        ("search.space.momentum=[0,1]", "below 1"),
        ("search.space.weight_decay=[1e-2,1e-3]", "lower one first"),
        ("+search.space.factor=[1,2]", "each two numbers"),
        ("search.reduction=1", "search.reduction=1"),
        ("search.min_epochs=10", "at most epochs=9"),
    ],
)
def test_what_cannot_be_searched_is_refused(override: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        composed(override)
