"""Every command that reads a run directory, on every attack: a line, and nothing else happens."""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from attacks import ATTACKS, SECRET, edit
from commands import Answer, Call, only_run

from hypergrad.cli import app as cli

BASE = (
    "scale=smoke", "outer.steps=1", "repeats=1", "epochs=1", "model=mlp", "threads=1",
    "model.options.hidden=8", "data.train_size=80", "data.test_size=40", "data.image_size=null",
    "method.batch_size=8", "selftest=off", "hd.enabled=false", "baseline.enabled=false",
)  # fmt: skip
COMMANDS = {
    "runs": ("runs", "--outputs", "{outputs}"),
    "doctor": ("doctor", "{run}"),
    "plot": ("plot", "--run", "{run}"),
    "plot all": ("plot", "--outputs", "{outputs}"),
    "table": ("table", "{run}"),
    "markdown": ("table", "{run}", "--format", "markdown"),
    "export": ("export", "{run}"),
    "confirm": ("confirm", "{run}", "--trainings", "2"),
    "report": ("report", "{run}", "-o", "{outputs}/report.html"),
    "resume": ("run", "--resume", "{run}"),
}
QUICK = ("runs", "export", "table", "markdown")
# The others take about a second each: an attack meets two of them, or all where that is asked for.
SLOW = [name for name in COMMANDS if name not in QUICK]
EVERY = "HYPERGRAD_ATTACKS" in os.environ
PAIRS = [
    (attack, command)
    for number, attack in enumerate(ATTACKS)
    for place, command in enumerate(SLOW)
    if EVERY or command == "resume" or number % (len(SLOW) - 1) == place
]


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that came to its end."""
    place = tmp_path_factory.mktemp("honest")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        arguments = ["hypergrad", "run", "from_zero", *BASE, "outputs=outputs"]
        patch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as left:
            cli.main()
    assert not left.value.code
    return only_run(place / "outputs")


@pytest.fixture
def strange(honest: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that is said to have been interrupted, beside another run and a file."""
    beside = tmp_path / "beside"
    run = tmp_path / "outputs" / "from_zero" / honest.name
    shutil.copytree(honest, run)
    shutil.copytree(honest, beside / "victim")
    (beside / "bystander").write_text("{}")
    monkeypatch.setenv("SECRET", SECRET)
    settings = json.loads((run / "summary.json").read_text())["settings"]
    cell = settings | {"search": "ours", "table_column": "digits"}
    edit(run / "summary.json", status="interrupted", settings=cell)
    return run


def digest(folder: Path) -> str:
    state = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        state.update(str(path).encode() + (path.read_bytes() if path.is_file() else b""))
    return state.hexdigest()


def assert_harmless(answer: Answer, place: Path, before: str) -> None:
    shown = answer.out + answer.err
    assert answer.code in (0, 1, 2), shown
    assert "Traceback" not in shown
    allowed = shown.replace("\n", "")
    assert allowed.isprintable(), [char for char in allowed if not char.isprintable()]
    assert max(map(len, answer.err.splitlines()), default=0) <= 320
    assert digest(place / "beside") == before
    assert SECRET not in shown
    for path in place.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 10**7:
            assert SECRET.encode() not in path.read_bytes()


def attacked(name: str, run: Path) -> str:
    """Carry an attack out; return what the bystanders are like."""
    beside = run.parents[2] / "beside"
    ATTACKS[name](run, beside)
    return digest(beside)


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_only_reads_a_run(call: Call, strange: Path, attack: str) -> None:
    place = strange.parents[2]
    before = attacked(attack, strange)
    for command in QUICK:
        given = (text.format(run=strange, outputs=place / "outputs") for text in COMMANDS[command])
        answer = call(*given)
        assert_harmless(answer, place, before)
        if command == "runs":
            assert answer.code == 0  # the other runs are listed whatever this one is


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "command"), PAIRS)
def test_what_draws_or_goes_on(call: Call, strange: Path, attack: str, command: str) -> None:
    place = strange.parents[2]
    before = attacked(attack, strange)
    given = (text.format(run=strange, outputs=place / "outputs") for text in COMMANDS[command])
    assert_harmless(call(*given), place, before)
