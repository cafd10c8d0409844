"""Budgets: how they are written, and when they are spent."""

import pytest

from hypergrad.core.budget import Budget, Spent


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("90s", 90, "seconds"),
        ("30min", 1800, "seconds"),
        ("2h", 7200, "seconds"),
        ("1.5 d", 129600, "seconds"),
        ("100trials", 100, "trials"),
        ("2e6 gradients", 2e6, "gradients"),
    ],
)
def test_budgets_as_people_write_them(text: str, amount: float, unit: str) -> None:
    assert Budget.parse(text) == Budget(amount, unit)


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2 weeks", "-1h", "0h", "1.2.3h", "1e999trials", "1e", "twoh"]
)
def test_what_is_no_budget_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no budget: write 2h, 30min, 100trials"):
        Budget.parse(text)


def test_a_hessian_product_counts_as_two_gradients() -> None:
    spent = Spent(seconds=3.0, gradients=10, products=4, trials=1)
    assert Budget.parse("1gradients").of(spent) == 18
    assert Budget.parse("1s").of(spent) == 3
    assert Budget.parse("1trials").of(spent) == 1
    assert spent.plus(spent) == Spent(6.0, 20, 8, 2)
    assert spent.over(1.5) == Spent(4.5, 15, 6, 1)


@pytest.mark.parametrize(("spent", "allowed"), [(80, True), (90, True), (90.1, False), (99, False)])
def test_a_budget_is_missed_by_half_a_piece_at_most(spent: float, allowed: bool) -> None:
    budget, more = Budget.parse("100s"), Spent(seconds=20.0)
    assert budget.allows(Spent(seconds=spent), more) is allowed
