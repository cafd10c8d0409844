"""What is said to somebody who guesses, and what the shell offers."""

import os
import subprocess
import sys

import pytest
from commands import Call
from places import ROOT

from hypergrad.cli import app as cli
from hypergrad.cli import completion


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            "run fig4",
            "unknown experiment 'fig4': `hypergrad run fig1` runs it, and `hypergrad plot f",
        ),
        ("run fig5", "`hypergrad baselines digits` runs it, and `hypergrad plot fig5` draws it"),
        ("fig1", "No such command 'fig1': did you mean `hypergrad run fig1`?"),
        ("fig4", "No such command 'fig4': `hypergrad run fig1` runs it"),
        ("quikstart", "did you mean `hypergrad run quickstart`?"),
        ("docter", "did you mean `hypergrad doctor`?"),
        ("data lst", "Did you mean 'list'?: `hypergrad data -h` shows how"),
        ("tabel", "No such command 'tabel': did you mean `hypergrad table`?"),
        ("xyzzy", "No such command 'xyzzy': `hypergrad -h` shows how"),
        ("run quickstart --epochs 3", "--epochs: settings have no dashes: epochs=3"),
        ("run quickstart --epochs=3", "settings have no dashes: epochs=3"),
        ("run quickstart --batch-size 8 seed=1", "no dashes: method.batch_size=8"),
        ("run quickstart --seed", "settings have no dashes: seed=VALUE"),
        ("run quickstart --xyzzy", "No such option: --xyzzy: `hypergrad run -h` shows how"),
        ("check steps=1", "unknown key steps"),
    ],
)
def test_a_guess_is_answered_in_one_line(call: Call, typed: str, said: str) -> None:
    answer = call(*typed.split())
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert "Traceback" not in answer.err


def test_of_check_and_plan_a_setting_may_come_first() -> None:
    named = cli._named("method=unshared", ["seed=1"])
    assert named == ("from_zero", ["method=unshared", "seed=1"])
    assert cli._named("fig1", None) == ("fig1", [])


@pytest.mark.parametrize(
    ("args", "incomplete", "offered"),
    [
        ([], "method.ba", ["method.batch_size="]),
        ([], "see", ["seed="]),
        ([], "scal", ["scale="]),
        ([], "data=mn", ["data=mnist"]),
        ([], "optimizer=a", ["optimizer=adam", "optimizer=adamw"]),
        (["data", "="], "mn", ["mnist"]),  # as bash divides it
        (["scale"], "=", ["smoke"]),
        ([], "seed=", []),
        ([], "xyzzy", []),
    ],
)
def test_settings_are_completed(args: list[str], incomplete: str, offered: list[str]) -> None:
    assert completion.overrides(args, incomplete) == offered


@pytest.mark.parametrize(
    ("line", "offered", "other"),
    [
        ("hypergrad ru", {"run", "runs"}, "plot"),
        ("hypergrad run fig1", {"fig1", "fig1_mnist"}, "fig2"),
        ("hypergrad baselines mn", {"mnist", "mnist_cpu"}, "svhn"),
        ("hypergrad run quickstart epo", {"epochs="}, "seed="),
    ],
)
def test_the_shell_is_answered_without_torch(line: str, offered: set[str], other: str) -> None:
    words = line.split()
    code = (
        "import sys\nfrom hypergrad.cli.app import main\nsys.argv = ['hypergrad']\n"
        "try: main()\nfinally: assert 'torch' not in sys.modules and 'hydra' not in sys.modules"
    )
    asked = {
        "_HYPERGRAD_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "PYTHONPATH": str(ROOT),
    }
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "AssertionError" not in found.stderr
    words = set(found.stdout.split())
    assert offered <= words
    assert other not in words


def test_completion_can_be_installed(call: Call) -> None:
    assert "--install-completion" in call("--help").out
