"""The closing table and the headline, from results with known means and deviations."""

from dataclasses import replace

import pytest

from hypergrad.config.composition import compose
from hypergrad.reporting.results import all_diverged, headline, how_set, summarise


def result(method: str, accuracy: float, *, diverged: bool = False) -> dict:
    return {"method": method, "test_accuracy": accuracy, "diverged": diverged}


RESULTS = [
    result("sgd", 0.90),
    result("hd", 0.80),
    result("ours_retrained", 0.98),
    result("ours_retrained", 0.96, diverged=True),
    result("hd_retrained", 0.85),
]


def test_order_of_the_table_does_not_depend_on_the_results() -> None:
    assert [s.method for s in summarise(RESULTS)] == ["ours_retrained", "hd", "hd_retrained", "sgd"]


def test_mean_and_sample_deviation_in_percent() -> None:
    ours = summarise(RESULTS)[0]
    assert ours.mean == pytest.approx(0.97)
    assert ours.text == "97.00 ± 1.41 %"  # 2 / sqrt(2)
    assert ours.diverged == 1


def test_headline_takes_the_better_figure_of_hd() -> None:
    assert headline(RESULTS) == (
        "ours 97.00 ± 1.41 % | HD 85.00 % | SGD 90.00 % (test accuracy, 2 seeds)"
    )


def test_training_at_the_starting_values_is_reported() -> None:
    results = [result("ours_retrained", 0.9), result("start", 0.8), result("sgd", 0.7)]
    assert [s.method for s in summarise(results)] == ["ours_retrained", "sgd", "start"]
    assert summarise(results)[-1].title == "starting values"
    assert headline(results) == (
        "ours 90.00 % | SGD 70.00 % | starting values 80.00 % (test accuracy, 1 seed)"
    )


def test_plain_sgd_says_how_it_was_set() -> None:
    config, _ = compose("fig1", ["baseline=multistep", "baseline.learning_rate=0.2"])
    assert how_set(config.baseline) == (
        "plain SGD: rate 0.2, times 0.2 after 30, 60, 80 % of the run; momentum 0.9, weight decay "
        "0.0005; set by hand, not tuned here"
    )
    cosine = compose("from_zero", ["baseline=cosine", "baseline.learning_rate=0.05"])[0].baseline
    assert how_set(cosine).startswith("plain SGD: rate 0.05 annealed to zero by a cosine; moment")
    constant = replace(cosine, schedule="constant")
    assert how_set(constant).startswith("plain SGD: rate 0.05; momentum 0.9")


def test_no_results_no_headline() -> None:
    assert headline([]) == ""


def test_a_headline_says_that_every_training_with_what_was_learned_diverged() -> None:
    lost = [result("ours_retrained", 0.1, diverged=True), result("sgd", 0.9)]
    assert all_diverged(lost)
    assert headline(lost) == (
        "every training with what was learned diverged: ours 10.00 % | SGD 90.00 % "
        "(test accuracy, 1 seed)"
    )
    assert not all_diverged(RESULTS)
    assert not all_diverged([*lost, result("ours_retrained", 0.9)])
    assert not all_diverged([result("sgd", 0.1, diverged=True)])
    assert all_diverged([result("random", 0.1, diverged=True)])
