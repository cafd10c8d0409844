"""The examples: each is short, says what its result is from, and comes to it."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from places import ROOT
from scipy import stats

EXAMPLES = ROOT / "examples"
# How many coefficients each script learns, by name.
LEARNED = {
    "own_cnn": {"learning_rate": 4, "momentum": 1},
    "small_gpt": {"learning_rate": 4, "decay": 1},
    "tabular": {"learning_rate": 4, "weight_decay": 2},
    "fine_tune": {"rate_body": 3, "rate_head": 3},
    "loss_hyperparameters": {"learning_rate": 3, "smoothing": 1, "shift": 1, "noise": 1},
    "clean_data": {"learning_rate": 3, "group_weights": 64},
}
SHARED = {"comparison", "digits", "letters"}
# Another processor rounds differently, and training amplifies it: by which the means may differ.
TOLERANCE = {"-bits a letter": 0.1}
POINTS = 2.5

NUMBER = r"([+-]?\d+\.\d+)"
RESULT = re.compile(
    r"(score|(?:test accuracy|explained variance) in %|-bits a letter), (\d+) fresh seeds: "
    rf"learned {NUMBER}, ([\w ]+) {NUMBER}, "
    rf"difference {NUMBER} ± {NUMBER}: (learned is better|learned is worse|not told apart)"
)

each_script = pytest.mark.parametrize("script", LEARNED)


class Result(NamedTuple):
    score: str
    seeds: int
    learned: float
    rival: float
    difference: float
    half: float
    verdict: str


def results(text: str) -> list[Result]:
    """The comparisons in a script's output, or in its docstring, broken over lines."""
    found = RESULT.findall(" ".join(text.split()))
    return [
        Result(score, int(seeds), *map(float, (ours, theirs, gap, half)), verdict)
        for score, seeds, ours, _, theirs, gap, half, verdict in found
    ]


def documented(script: str) -> str:
    return ast.get_docstring(ast.parse((EXAMPLES / f"{script}.py").read_text("utf-8"))) or ""


def output(script: str, folder: Path, *arguments: str) -> str:
    """Run a copy of the examples, which writes its figure beside it or to a temporary folder."""
    shutil.copytree(EXAMPLES, folder / "examples")
    paths = {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "MPLCONFIGDIR": str(folder)}
    run = subprocess.run(
        [sys.executable, str(folder / "examples" / f"{script}.py"), *arguments],
        env={**os.environ, **paths, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def coefficients(text: str) -> dict[str, int]:
    """How many coefficients a script has printed of each hyperparameter."""
    lines = re.findall(r"^ {4}(\w+): (.*)$", text, re.M)
    many = {name: re.match(r"(\d+) values from", values) for name, values in lines}
    return {name: int(m[1]) if (m := many[name]) else len(v.split()) for name, v in lines}


def check_arithmetic(found: list[Result]) -> None:
    for result in found:
        assert result.difference == pytest.approx(result.learned - result.rival, abs=0.011)
        apart = abs(result.difference) - result.half
        if abs(apart) > 0.01:  # not a matter of rounding
            assert (result.verdict == "not told apart") == (apart < 0)


def test_every_script_is_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*LEARNED, *SHARED}


@each_script
def test_a_script_is_short_and_says_what_its_result_is_from(script: str) -> None:
    assert len((EXAMPLES / f"{script}.py").read_text("utf-8").splitlines()) <= 80
    text = " ".join(documented(script).split())
    assert f"`python examples/{script}.py`" in text
    assert re.search(r"commit [0-9a-f]{7}\b", text)
    assert re.search(r"one thread of an? \w+", text)
    found = results(text)
    assert found
    assert all(result.seeds == 8 for result in found)
    check_arithmetic(found)


@each_script
def test_the_table_has_the_results_of_the_docstrings(script: str) -> None:
    rows = (EXAMPLES / "README.md").read_text("utf-8").splitlines()
    (row,) = [row for row in rows if row.startswith(f"| [{script}]({script}.py)")]
    for result in results(documented(script)):
        assert f"{result.difference:+.2f} ± {result.half:.2f}" in row
        assert result.verdict in row


@each_script
def test_a_script_learns_compares_and_judges(script: str, tmp_path: Path) -> None:
    text = output(script, tmp_path, "--quick")
    assert coefficients(text) == LEARNED[script]
    steps, first, best = re.findall(rf"^(\d+) outer steps, .* {NUMBER} -> {NUMBER}", text, re.M)[0]
    assert steps == "2"
    assert float(best) <= float(first)
    found = results(text)
    assert [result.score for result in found] == [r.score for r in results(documented(script))]
    assert all(result.seeds == 3 for result in found)
    check_arithmetic(found)
    if script == "clean_data":
        assert (tmp_path / "clean_data.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@each_script
def test_a_script_comes_to_its_result(script: str, tmp_path: Path) -> None:
    found, expected = results(output(script, tmp_path)), results(documented(script))
    for ours, said in zip(found, expected, strict=True):
        tolerance = TOLERANCE.get(said.score, POINTS)
        assert ours.learned == pytest.approx(said.learned, abs=tolerance)
        assert ours.rival == pytest.approx(said.rival, abs=tolerance)
        if said.difference > 2 * said.half:
            assert ours.verdict == said.verdict


# How they judge


@pytest.fixture
def comparison() -> ModuleType:
    spec = importlib.util.spec_from_file_location("comparison", EXAMPLES / "comparison.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_interval_is_that_of_a_paired_t_test(
    comparison: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    draws = np.random.default_rng(0)
    ours, theirs = draws.normal(1.0, 1.0, (2, 8)).tolist()
    comparison.compare(
        "score", lambda seed: ours[seed - 100], lambda seed: theirs[seed - 100], "rival"
    )
    (result,) = results(capsys.readouterr().out)
    low, high = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert result.difference == pytest.approx((low + high) / 2, abs=0.006)
    assert result.half == pytest.approx((high - low) / 2, abs=0.006)


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [(1.0, "learned is better"), (-1.0, "learned is worse"), (0.0, "not told apart")],
)
def test_the_verdict_is_the_intervals(
    comparison: ModuleType, capsys: pytest.CaptureFixture[str], gap: float, verdict: str
) -> None:
    comparison.compare("score", lambda seed: gap + 0.01 * (seed % 2 - 0.5), lambda seed: 0.0)
    assert results(capsys.readouterr().out)[0].verdict == verdict


def test_the_seeds_that_choose_never_judge(comparison: ModuleType) -> None:
    chose, judged = [], []
    assert comparison.tuned([1, 2, 3], lambda plan, s: chose.append(s) or -abs(plan - 2)) == 2
    comparison.compare("score", lambda s: judged.append(s) or 0.0, lambda s: float(s))
    assert chose
    assert judged
    assert not set(chose) & set(judged)
