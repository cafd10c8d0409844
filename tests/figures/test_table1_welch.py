import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import betainc
from scipy.stats import ttest_ind
from table1_runs import write_cell

from hypergrad.figures.table1_data import Cell, cells_of, read_cells


def cells(tmp_path: Path, **accuracies: list[float]) -> dict[str, Cell]:
    runs = [
        write_cell(tmp_path / row, row, dict(enumerate(values)))
        for row, values in accuracies.items()
    ]
    return {cell.row: cell for cell in cells_of(read_cells(runs))}


def welch_by_hand(one: list[float], other: list[float]) -> float:
    """Student's t with Welch and Satterthwaite's degrees of freedom, written out."""
    squares = [np.var(values, ddof=1) / len(values) for values in (one, other)]
    t = (np.mean(one) - np.mean(other)) / math.sqrt(sum(squares))
    degrees = sum(squares) ** 2 / sum(
        square**2 / (len(values) - 1) for square, values in zip(squares, (one, other), strict=True)
    )
    # The two tails of Student's distribution as an incomplete beta function.
    return float(betainc(degrees / 2, 0.5, degrees / (degrees + t**2)))


@pytest.mark.parametrize("seed", range(4))
def test_p_values_are_those_of_welchs_test(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = {
        "ours": (0.9 + 0.002 * rng.standard_normal(3)).tolist(),
        "hd": (0.895 + 0.005 * rng.standard_normal(4)).tolist(),
        "grid": (0.89 + 0.001 * rng.standard_normal(2)).tolist(),
    }
    found = cells(tmp_path, **drawn)
    best = max(drawn, key=lambda row: float(np.mean(drawn[row])))
    assert [row for row, cell in found.items() if cell.best] == [best]
    assert math.isnan(found[best].p_value)
    for row in drawn.keys() - {best}:
        expected = ttest_ind(drawn[best], drawn[row], equal_var=False).pvalue
        # Only the order of summation differs.
        assert found[row].p_value == pytest.approx(expected, rel=1e-9)
        assert found[row].p_value == pytest.approx(welch_by_hand(drawn[best], drawn[row]), rel=1e-9)


def test_nothing_is_claimed_without_a_second_seed_or_any_variance(tmp_path: Path) -> None:
    found = cells(tmp_path, ours=[0.9, 0.9], hd=[0.8, 0.8], random=[0.7])
    assert found["ours"].best
    assert all(math.isnan(cell.p_value) for cell in found.values())


def test_one_variance_of_zero_is_tested(tmp_path: Path) -> None:
    found = cells(tmp_path, ours=[0.9, 0.9], hd=[0.8, 0.81])
    # t = 0.095 / 0.005 = 19 with one degree of freedom, whose distribution is Cauchy's.
    assert found["hd"].p_value == pytest.approx(1 - 2 * math.atan(19) / math.pi, rel=1e-9)


def test_equal_means_are_both_best(tmp_path: Path) -> None:
    found = cells(tmp_path, ours=[0.9, 0.8], hd=[0.8, 0.9], random=[0.5, 0.6])
    assert [cell.best for cell in found.values()] == [False, True, True, False]
    assert math.isnan(found["hd"].p_value)
    assert 0 < found["random"].p_value < 1


def test_columns_are_compared_apart(tmp_path: Path) -> None:
    runs = [
        write_cell(tmp_path / "a", "ours", {0: 0.9}, "mnist"),
        write_cell(tmp_path / "b", "hd", {0: 0.5}, "svhn"),
    ]
    assert sum(cell.best for cell in cells_of(read_cells(runs))) == 2
