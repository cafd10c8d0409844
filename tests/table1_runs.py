"""Runs of Table 1, written as runs write them, small enough to check by eye."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

SPENT = {"seconds": 240.0, "gradients": 80_000, "products": 400_000, "trials": 10}


def write_cell(
    folder: Path,
    row: str,
    accuracies: Mapping[int, float | None],
    column: str = "mnist",
    status: str = "finished",
    fraction: float = 1.0,
    diverged: Sequence[int] = (),
    spent: Mapping[str, float | None] = SPENT,
    **settings: object,
) -> Path:
    """A run of one cell; `accuracies` are those of the result that counts, by seed."""
    method = {"ours": "ours_retrained"}.get(row, row)
    own = {"data": column, "model": "lenet", "scale": "cpu", "search": row, "table_column": column}
    summary = {
        "experiment": f"baselines_{column}",
        "status": status,
        "progress": {"fraction": fraction},
        "settings": {**own, "budget": "4min", "epochs": "2", **settings},
        "results": [
            {"seed": seed, "method": name, "test_accuracy": value, "diverged": seed in diverged}
            for seed, accuracy in accuracies.items()
            for name, value in ((method, accuracy), ("something_else", 0.5))
        ],
        "spent": [{"seed": seed, **spent} for seed in accuracies],
    }
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def write_table(
    folder: Path,
    rows: str = "random hd ours grid",
    columns: str = "mnist",
    seeds: str = "0 1 2",
    missing: Mapping[str, str] | None = None,
) -> Path:
    """A table run without any cell."""
    settings = {"rows": rows, "columns": columns, "seeds": seeds, "budget": "4min", "scale": "cpu"}
    summary = {"experiment": "table1", "status": "running", "settings": settings}
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({**summary, "missing": missing or {}}))
    return folder


def write_column(table: Path, column: str = "mnist") -> Path:
    """A whole column of a table run: three seeds a row, ours ahead, one random search lost."""
    accuracies = {
        "random": (0.9749, 0.1, 0.9777),
        "hd": (0.9742, 0.9701, 0.9783),
        "ours": (0.9849, 0.9821, 0.9877),
    }
    for row, values in accuracies.items():
        for seed, accuracy in enumerate(values):
            seconds = {"random": 240.0, "hd": 250.0, "ours": 245.0}[row]
            write_cell(
                table / f"{column}_{row}_seed{seed}",
                row,
                {seed: accuracy},
                column,
                diverged=[seed] if accuracy == 0.1 else [],
                spent=SPENT | {"seconds": seconds},
            )
    grid = {0: 0.9812, 1: 0.98, 2: 0.979}
    write_cell(
        table / f"{column}_grid", "grid", grid, column, spent={"seconds": 7200.0, "trials": 5}
    )
    return table
