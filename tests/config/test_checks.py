"""Rules of settings, and the walk that applies them."""

from dataclasses import dataclass
from typing import Annotated

import pytest

from hypergrad.config.checks import (
    ConfigError,
    at_least,
    between,
    check,
    distinct,
    matches,
    not_negative,
    one_of,
    positive,
)

INFINITE, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("rule", "good", "bad", "wrong"),
    [
        (at_least(2), [2, 3], [1], "must be at least 2"),
        (between(0, 1), [0, 0.5], [1, -0.1, NAN], "must be in [0, 1)"),
        (between(0, 1, "()"), [0.5], [0, 1, NAN], "must be in (0, 1)"),
        (between(0, 1, "(]"), [0.5, 1], [0, 1.1, NAN], "must be in (0, 1]"),
        (positive, [1e-9], [0, -1, INFINITE, NAN], "must be above zero and finite"),
        (not_negative, [0, 1], [-1, INFINITE, NAN], "must be zero or more, and finite"),
        (one_of("a", "b"), ["a"], ["c", ""], "use one of a, b"),
        (matches(r"\d+", "use digits"), ["12"], ["1x", ""], "use digits"),
        (distinct, [["a", "b"]], [["a", "a"]], "names one twice: name some, each once"),
    ],
)
def test_rules(rule, good: list, bad: list, wrong: str) -> None:  # noqa: ANN001
    assert [rule(value) for value in good] == [None] * len(good)
    assert [rule(value) for value in bad] == [wrong] * len(bad)


@dataclass
class Inner:
    rate: Annotated[float, positive] | None
    names: Annotated[list[Annotated[str, one_of("a", "b")]], distinct]
    shares: dict[str, Annotated[float, between(0, 1)]]


@dataclass
class Outer:
    count: Annotated[int, at_least(1)]
    inner: Inner


@pytest.mark.parametrize(
    ("count", "rate", "names", "shares", "line"),
    [
        (0, None, ["a"], {}, "count=0: must be at least 1"),
        (1, -1.0, ["a"], {}, "inner.rate=-1.0: must be above zero and finite"),
        (1, None, ["a", "c"], {}, "inner.names=c: use one of a, b"),
        (1, None, ["a", "a"], {}, "inner.names=['a', 'a']: names one twice: name some, each once"),
        (1, None, ["a"], {"x": 0.5, "y": 2.0}, "inner.shares.y=2.0: must be in [0, 1)"),
    ],
)
def test_the_first_broken_rule_is_told_by_its_whole_key(
    count: int, rate: float | None, names: list[str], shares: dict[str, float], line: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check(Outer(count, Inner(rate, names, shares)), Outer)
    assert str(caught.value) == line
    check(Outer(1, Inner(None, ["b"], {"x": 0.0})), Outer)
