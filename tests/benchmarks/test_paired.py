import math

import pytest
from scipy import stats

from benchmarks.paired import Paired, holm, paired

OURS, THEIRS = [3.0, 5.0, 4.5, 6.0], [2.5, 3.0, 4.0, 4.0]


def test_differences_are_tested_as_scipy_does() -> None:
    found = paired(OURS, THEIRS)
    wanted = stats.ttest_rel(OURS, THEIRS)
    assert found.mean == pytest.approx(1.25)
    assert found.different() == pytest.approx(wanted.pvalue)
    assert found.above() == pytest.approx(wanted.pvalue / 2)
    assert found.above() + found.below() == pytest.approx(1)
    low, high = wanted.confidence_interval(0.95)
    assert found.half() == pytest.approx((high - low) / 2)


def test_equivalence_is_the_worse_of_two_one_sided_tests() -> None:
    found = Paired(0.1, 0.2, 8)
    wanted = max(stats.t.sf((0.1 + 0.5) / 0.2, 7), stats.t.sf((0.5 - 0.1) / 0.2, 7))
    assert found.equivalent(0.5) == pytest.approx(wanted)


def test_equal_differences_need_no_test() -> None:
    assert Paired(0.0, 0.0, 8).different() == 1
    assert Paired(0.2, 0.0, 8).different() == 0
    assert Paired(0.2, 0.0, 8).equivalent(0.5) == 0


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_single_pair_says_nothing() -> None:
    with pytest.raises(ValueError, match="1 pairs: give two or more"):
        paired([1.0], [2.0])


def test_the_text_has_a_true_minus() -> None:
    assert str(paired([1.0, 2.0], [2.0, 4.0])) == f"−1.50 ± {0.5 * stats.t.ppf(0.975, 1):.2f}"
    assert math.isfinite(paired(OURS, THEIRS).half(0.99))
