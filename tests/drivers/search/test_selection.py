"""Which setting is chosen: by validation alone, and never one that is no number."""

import math

import pytest

from hypergrad.core.budget import Spent
from hypergrad.drivers.search.candidates import Candidate
from hypergrad.drivers.search.selection import choose
from hypergrad.drivers.search.trial import Trial, TrialResult


def candidate(number: int) -> Candidate:
    return Candidate(number, "cosine", (0.1 * (number + 1),), (0.0,), (0.0,))


def result(accuracy: float, loss: float = 1.0, test: float = 0.5) -> TrialResult:
    return TrialResult(accuracy, loss, test, 0.1, False, None, 10, Spent(trials=1), 1)


def finished(*columns: list[TrialResult]) -> dict[int, list[tuple[Trial, TrialResult]]]:
    """Outcomes of each seed, setting by setting."""
    return {
        seed: [(Trial(candidate(k), seed), found) for k, found in enumerate(column)]
        for seed, column in enumerate(columns)
    }


def test_a_grid_is_chosen_by_the_mean_over_its_seeds() -> None:
    found = finished(
        [result(0.9), result(0.80), result(0.7)],
        [result(0.5), result(0.81), result(0.7)],
    )
    chosen = choose("grid", found)
    assert [choice.candidate for choice in chosen.values()] == [candidate(1)] * 2
    means = [choice.validation_accuracy for choice in chosen.values()]
    assert means == pytest.approx([0.805, 0.805])
    assert chosen[1].result == result(0.81)
    separate = choose("random", found)
    assert [separate[seed].candidate.number for seed in (0, 1)] == [0, 1]
    assert separate[0].validation_accuracy == 0.9


def test_test_accuracy_plays_no_part_and_the_loss_decides_a_draw() -> None:
    found = finished([result(0.9, 0.5, test=0.1), result(0.9, 0.4), result(0.8, test=1.0)])
    for kind in ("grid", "random"):
        assert choose(kind, found)[0].candidate.number == 1
    draw = finished([result(0.9), result(0.9)])
    assert choose("grid", draw)[0].candidate.number == 0


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_loss_that_is_no_number_never_wins(bad: float) -> None:
    found = finished([result(1.0, bad), result(0.1, 3.0)])
    for kind in ("grid", "random", "hd"):
        assert choose(kind, found)[0].candidate.number == 1
    one_seed = finished([result(1.0), result(0.1)], [result(1.0, bad), result(0.1)])
    assert choose("grid", one_seed)[0].candidate.number == 1
    hopeless = finished([result(0.1, bad), result(0.1, bad)])
    assert choose("grid", hopeless)[0].candidate.number == 0


def test_only_settings_with_all_seeds_can_win_a_grid() -> None:
    found = finished([result(0.5), result(0.99)], [result(0.5)])
    assert choose("grid", found)[0].candidate.number == 0
    with pytest.raises(ValueError, match="no setting has been tried with every seed"):
        choose("grid", finished([result(0.5)], []))
    with pytest.raises(ValueError, match="seed 0 has no finished trial"):
        choose("hd", finished([]))
