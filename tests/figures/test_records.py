"""Every record in experiments/ is drawn as it stands, and the data drawn are those kept."""

from pathlib import Path

import pandas as pd
import pytest

from hypergrad.cli import plot_commands
from hypergrad.figures import FIGURES
from hypergrad.figures.run_data import read_run
from hypergrad.figures.table1 import write
from hypergrad.figures.table1_data import read_cells

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RECORDS = sorted(
    path.parent.relative_to(EXPERIMENTS)
    for path in EXPERIMENTS.rglob("summary.json")
    if path.parent.name == "record" or path.parent.parent.name == "fig5"
)
DRAWN = [
    (record, name)
    for record in RECORDS
    for name in FIGURES
    if name in read_run(EXPERIMENTS / record).figures
]


def test_all_records_are_here() -> None:
    assert [str(record) for record in RECORDS] == [
        *("fig1/record", "fig2/record", "fig3/record", "fig5/cifar10", "fig5/digits"),
        "from_zero/record",
        *(f"optimizers/{name}/record" for name in ("adamw", "adamw_groups", "label_smoothing")),
        *("quickstart/record", "table1/record"),
    ]
    assert len(DRAWN) == 16


@pytest.mark.parametrize(("record", "name"), DRAWN)
def test_a_record_is_drawn_with_the_data_kept_beside_it(
    record: Path, name: str, tmp_path: Path
) -> None:
    run = EXPERIMENTS / record
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    plot_commands.plot([name], run, tmp_path, tmp_path / "figures")
    kept = next(run.glob(f"{name}.csv*"))
    drawn = pd.read_csv(tmp_path / "figures" / f"{name}.csv")
    # Another numpy may sum in another order.
    pd.testing.assert_frame_equal(drawn, pd.read_csv(kept), check_exact=False, rtol=1e-12)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_the_record_of_table_1_is_the_one_kept(tmp_path: Path) -> None:
    run = EXPERIMENTS / "table1" / "record"
    for path in write(read_cells([run]), tmp_path):
        if path.suffix == ".csv":
            drawn, kept = pd.read_csv(path), pd.read_csv(run / path.name)
            pd.testing.assert_frame_equal(drawn, kept, check_exact=False, rtol=1e-12)
        else:
            assert path.read_text() == (run / path.name).read_text()
