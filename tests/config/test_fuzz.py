"""Whatever is typed or lies in a file, it is composed or refused in a line; nothing is run.

HYPERGRAD_FUZZ is how many cases there are of each kind.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypergrad.config.checks import ConfigError
from hypergrad.config.composition import compose, load
from hypergrad.config.overrides import choices, expand_sweep, known_keys
from hypergrad.config.schema import RunConfig
from hypergrad.runs.shown import short

CASES = int(os.environ.get("HYPERGRAD_FUZZ", "60"))
PATIENCE = 20  # seconds of one case
FUZZ = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
_, TEXT = compose("from_zero")

KEYS = st.sampled_from(
    [
        *known_keys(),
        *("model", "data", "search", "method", "scale", "optimizer", "baseline", "experiment"),
        *("model.options.hidden", "model.options.x", "search.grid.momentum", "nothing", ""),
        *("hyperparameters.learning_rate.count", "hyperparameters.x.y", "table.budgets.mnist"),
    ]
)
ODD = st.sampled_from(
    [
        *("0", "-1", "1", "1e9", "1e400", "nan", "inf", "null", "true", "''", "[]", "{}", "[1,2]"),
        *("${seed}", "${name}", "${oc.env:HOME}", "${oc.env:NOTHING}", "${model}", "${", "${a}"),
        *("0,1,2", "range(3)", "range(1e9)", "interval(0,1)", "choice(a,b)", "glob(*)", "sort(1)"),
        *("{a:1}", "{" * 60, "}" * 3, "[" * 60, "\\", '"', "'", "=", "a=b", " ", "\t", "\x1b[31m"),
        *("9" * 400, "x" * 1000, "../..", "/dev/zero", "mlp", "mnist", "table", "hd", "json:loads"),
        *(
            "shuffle(0,1)",
            "extend_list(1)",
            "float(1)",
            "int(x)",
            "str(1)",
            "tag(a,1)",
            "é",
            "\udc80",
        ),
    ]
)
NUMBERS = st.one_of(st.integers(), st.floats()).map(str)
VALUES = st.one_of(ODD, NUMBERS, st.text(max_size=8), st.sampled_from(choices("model")))
PREFIXES = st.sampled_from(["", "", "", "", "+", "++", "~"])
OVERRIDE = st.one_of(
    st.tuples(PREFIXES, KEYS, VALUES).map(lambda own: f"{own[0]}{own[1]}={own[2]}"),
    st.text(max_size=12),
)
OVERRIDES = st.lists(OVERRIDE, max_size=4)
LINES = st.sampled_from(TEXT.splitlines())
YAML = st.one_of(
    st.text(max_size=40),
    st.tuples(LINES, VALUES).map(
        lambda own: TEXT.replace(own[0], f"{own[0].partition(':')[0]}: {own[1]}", 1)
    ),
    st.tuples(LINES, st.text(max_size=6)).map(lambda own: TEXT.replace(*own, 1)),
    st.tuples(
        st.integers(0, len(TEXT)), st.sampled_from(["\n", "- ", "&a *a", "{", "\x00", "!!x "])
    ).map(lambda own: TEXT[: own[0]] + own[1] + TEXT[own[0] :]),
    st.integers(0, len(TEXT)).map(lambda end: TEXT[:end]),
)


@contextmanager
def in_time() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"took more than {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def assert_a_line(error: ConfigError) -> None:
    assert str(error).strip()
    assert short(f"hypergrad: {error}").isprintable()


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="this system has no alarm")
@FUZZ
@given(OVERRIDES)
def test_what_is_typed_is_composed_or_refused(overrides: list[str]) -> None:
    with in_time():
        try:
            config, text = compose("from_zero", overrides)
        except ConfigError as error:
            assert_a_line(error)
        else:
            assert load(text) == config  # a run that begins can be resumed


@FUZZ
@given(OVERRIDES)
def test_a_sweep_is_expanded_or_refused(overrides: list[str]) -> None:
    with in_time():
        try:
            members = expand_sweep(overrides)
        except ConfigError as error:
            assert_a_line(error)
        else:
            assert 1 <= len(members) <= 1000


@FUZZ
@given(YAML)
def test_a_recorded_configuration_is_loaded_or_refused(text: str) -> None:
    with in_time():
        try:
            config = load(text)
        except ConfigError as error:
            assert_a_line(error)
        else:
            assert isinstance(config, RunConfig)
