"""Learning within a budget, and with a test set that is looked at once."""

from pathlib import Path

import pandas as pd
import pytest
from tiny import go, new_run, table, tiny_context

from hypergrad.runs.interrupt import Interrupt, Interrupted

ALONE = ("hd.enabled=false", "baseline.enabled=false", "outer.tolerance=0")


def test_outer_steps_go_on_until_the_budget_is_spent_whatever_their_number(tmp_path: Path) -> None:
    given, text = tiny_context(*ALONE, "outer.steps=100", "budget=5trials")
    run = new_run(given, text, tmp_path)
    loop = go(given, run)
    outer = table(run, "outer")
    for seed in (0, 1):
        assert outer[outer["seed"] == seed]["outer_step"].max() == 4
    spent = loop.progress.spent
    assert [entry["trials"] for entry in spent] == [5, 5]
    # an epoch of 5 steps of minibatches of 32, then runs of two epochs, every one with gradients
    assert [entry["gradients"] for entry in spent] == [5 + 4 * 10] * 2
    assert run.read_summary()["spent"] == spent
    assert run.read_summary()["progress"]["fraction"] == 1.0


def test_gradients_and_products_are_those_of_the_tangents(tmp_path: Path) -> None:
    exact = ("method.truncation=0", "repeats=1", "outer.steps=3")
    given, text = tiny_context(*ALONE, *exact)
    loop = go(given, new_run(given, text, tmp_path))
    (spent,) = loop.progress.spent
    assert spent["gradients"] == 5 + 10 + 10
    # None in the first run, where all values are zero. In each of the two runs of 10 steps a value
    # costs one a step after its first use: the first rate, momentum and decay 9, the second rate,
    # in use from step 5 on, 4.
    assert spent["products"] == 2 * (9 + 9 + 9 + 4)


def test_a_budget_in_gradients_counts_a_product_twice(tmp_path: Path) -> None:
    given, text = tiny_context(*ALONE, "outer.steps=100", "repeats=1", "budget=400gradients")
    loop = go(given, new_run(given, text, tmp_path))
    (spent,) = loop.progress.spent
    total = spent["gradients"] + 2 * spent["products"]
    each = total / (spent["trials"] - 1)
    assert abs(total - 400) <= each / 2 + 1


def test_reverse_mode_counts_the_way_back(tmp_path: Path) -> None:
    reverse = ("method.mode=reverse", "method.truncation=0", "method.clip_products=null")
    given, text = tiny_context(*ALONE, *reverse, "repeats=1", "outer.steps=2")
    loop = go(given, new_run(given, text, tmp_path))
    (spent,) = loop.progress.spent
    assert spent["gradients"] == 2 * (5 + 10)
    assert spent["products"] == 10  # none in the first outer step, where all values are zero


def test_what_is_spent_survives_interruptions(tmp_path: Path) -> None:
    given, text = tiny_context(*ALONE, "repeats=1", "outer.steps=3")
    whole = go(given, new_run(given, text, tmp_path / "a")).progress.spent
    run, resumed = new_run(given, text, tmp_path / "b"), False
    for stop in (4, 9, 8, 7):

        class Impatient(Interrupt):
            looks, last = 0, stop

            @property
            def requested(self) -> str | None:  # type: ignore[override]
                self.looks += 1
                return "SIGINT" if self.looks > self.last else None

            @requested.setter
            def requested(self, value: object) -> None: ...

        with pytest.raises(Interrupted):
            go(given, run, interrupt=Impatient(), resume=resumed)
        resumed = True
    found = go(given, run, resume=True).progress.spent
    for entry in (*whole, *found):
        assert entry.pop("seconds") > 0
    assert found == whole


def test_the_test_set_is_looked_at_once_after_final_trainings(tmp_path: Path) -> None:
    given, text = tiny_context("test_curves=false", "repeats=1", "outer.steps=2")
    run = new_run(given, text, tmp_path)
    loop = go(given, run)
    inner = pd.read_csv(run.path / "inner.csv")
    seen = inner[inner["test_accuracy"].notna()]
    assert list(seen["method"]) == ["ours_retrained", "hd_retrained", "sgd"]
    assert set(seen["epoch"]) == {2.0}
    for result in loop.progress.results:
        known = result["test_accuracy"] is not None
        assert known == (result["method"] not in ("ours", "hd"))
    full, _ = tiny_context("repeats=1", "outer.steps=2")
    other = go(full, new_run(full, text, tmp_path / "full"))
    named = {r["method"]: r["test_accuracy"] for r in other.progress.results}
    for result in loop.progress.results:
        if result["test_accuracy"] is not None:
            assert result["test_accuracy"] == named[result["method"]]
