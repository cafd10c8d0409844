"""Every record in experiments/ is drawn by a command in its README, and gives the data kept."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from hypergrad.cli.app import app
from hypergrad.figures import FIGURES
from hypergrad.figures.run_data import read_run
from hypergrad.figures.table1 import write
from hypergrad.figures.table1_data import read_cells

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
RECORDS = sorted(
    path.parent.relative_to(EXPERIMENTS)
    for path in EXPERIMENTS.rglob("summary.json")
    if path.parent.name == "record" or path.parent.parent.name == "fig5"
)
COMMANDS = {
    command.split()[3]: command
    for page in sorted(EXPERIMENTS.rglob("README.md"))
    for command in re.findall(r"hypergrad plot .+(?=\n|`)", page.read_text(encoding="utf-8"))
}


def test_all_records_are_here() -> None:
    assert [str(record) for record in RECORDS] == [
        *("fig1/record", "fig2/record", "fig3/record", "fig5/cifar10", "fig5/digits"),
        "from_zero/record",
        *(f"optimizers/{name}/record" for name in ("adamw", "adamw_groups", "label_smoothing")),
        *("quickstart/record", "table1/record"),
    ]


def test_every_recorded_figure_has_a_command_in_a_readme() -> None:
    pictures = {p.parent for p in EXPERIMENTS.rglob("*.png") if p.stem in FIGURES}
    assert {f"experiments/{path.relative_to(EXPERIMENTS)}" for path in pictures} == set(COMMANDS)
    for record, command in COMMANDS.items():
        assert command == f"hypergrad plot --run {record} --output {record} --format png"


@pytest.mark.parametrize("record", sorted(COMMANDS))
def test_the_command_draws_the_pictures_kept_with_the_data_kept(
    record: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    run = ROOT / record
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    arguments = shlex.split(COMMANDS[record])[1:]
    arguments[arguments.index("--output") + 1] = str(tmp_path)
    arguments[-1] += ",csv"
    app(arguments, standalone_mode=False)
    names = read_run(run).figures
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.{suffix}" for name in names for suffix in ("png", "csv")
    )
    assert {path.name for path in run.glob("*.png")} == {f"{name}.png" for name in names}
    for name in names:
        drawn, kept = (pd.read_csv(next(p.glob(f"{name}.csv*"))) for p in (tmp_path, run))
        # Another numpy may sum in another order.
        pd.testing.assert_frame_equal(drawn, kept, check_exact=False, rtol=1e-12)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_the_record_of_table_1_is_the_one_kept(tmp_path: Path) -> None:
    run = EXPERIMENTS / "table1" / "record"
    for path in write(read_cells([run]), tmp_path):
        if path.suffix == ".csv":
            drawn, kept = pd.read_csv(path), pd.read_csv(run / path.name)
            pd.testing.assert_frame_equal(drawn, kept, check_exact=False, rtol=1e-12)
        else:
            assert path.read_text() == (run / path.name).read_text()


def test_the_command_of_table_1_prints_what_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    page = (EXPERIMENTS / "table1" / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"`(hypergrad table [^`]+)`", page)
    app(shlex.split(command)[1:], standalone_mode=False)
    kept = EXPERIMENTS / "table1" / "record" / "table1.md"
    assert capsys.readouterr().out == kept.read_text(encoding="utf-8")
