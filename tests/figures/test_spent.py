"""Test score against trainings spent: from small logged runs of every kind of search."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import t

from hypergrad.cli import plot_commands
from hypergrad.figures import draw
from hypergrad.figures.spent import TITLES, read_scores

SETTINGS = {"data": "digits", "model": "mlp", "epochs": 4, "scale": "full", "setup": "one"}


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_run(
    path: Path, settings: Mapping[str, object], results: object, spent: object, status: str
) -> Path:
    path.mkdir(parents=True)
    told = {"status": status, "settings": {**SETTINGS, **settings}, "results": results}
    (path / "summary.json").write_text(json.dumps({**told, "spent": spent}))
    return path


def result(method: str, seed: int, accuracy: float) -> dict:
    return {"seed": seed, "method": method, "test_accuracy": accuracy, "diverged": False}


def search(
    folder: Path, kind: str, trials: int, accuracies: Sequence[float], **more: object
) -> Path:
    """A run of a search: 10 steps a training, the same seeds in one run."""
    status = str(more.pop("status", "finished"))
    seeds = range(len(accuracies))
    path = write_run(
        folder,
        {"search": kind, **more},
        [result(kind, seed, accuracy) for seed, accuracy in zip(seeds, accuracies, strict=True)],
        [
            {"seed": s, "seconds": 1.0, "gradients": 10 * trials, "products": 0, "trials": trials}
            for s in seeds
        ],
        status,
    )
    write_csv(path / "trials.csv", [{"steps": 10}, {"steps": 3}])  # of Hyperband, say
    return path


def learn(folder: Path, accuracy: float, seed: int = 0) -> Path:
    """A run of the loop: three outer steps, of which the first had a shorter horizon."""
    results = [result("ours_retrained", seed, accuracy), result("sgd", seed, 0.5)]
    spent = [{"seed": seed, "seconds": 1.0, "gradients": 22, "products": 39, "trials": 3}]
    given = {"search": "ours", "method": "shared", "outer_steps": 3}
    path = write_run(folder, given, results, spent, "finished")
    steps = [("ours", 2), ("ours", 10), ("ours_retrained", 12)]
    write_csv(path / "inner.csv", [{"method": name, "step": step} for name, step in steps])
    write_csv(path / "outer.csv", [{"outer_step": 0}])
    return path


def improve(folder: Path, accuracy: float | None, **settings: object) -> Path:
    """A run of improve: two plain trainings, a differentiated one, a judgement."""
    results = [] if accuracy is None else [result("improved", 0, accuracy)]
    path = write_run(
        folder, {"search": "ours", "direction": "hypergradients", **settings}, results, [],
        "finished",
    )  # fmt: skip
    rows = [
        ("ladder", 10, 0, 0),
        ("search", 10, 0, 0),
        ("direction", 18, 9, 1),
        ("judge", 12, 0, 0),
    ]
    names = ("stage", "gradients", "products", "differentiated")
    write_csv(
        path / "trainings.csv", [{"seed": 0, **dict(zip(names, row, strict=True))} for row in rows]
    )
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    search(tmp_path / "tpe" / "small", "tpe", 5, [0.90, 0.92], budget="50gradients")
    search(tmp_path / "tpe" / "large", "tpe", 20, [0.94, 0.95], budget="200gradients")
    search(tmp_path / "random", "random_space", 7, [0.91])
    search(tmp_path / "grid", "grid", 8, [0.8, 0.9])
    search(tmp_path / "hd", "hd", 6, [0.7])
    search(tmp_path / "going", "hyperband", 6, [0.1], status="running")
    learn(tmp_path / "ours" / "0", 0.93)
    learn(tmp_path / "ours" / "1", 0.95, seed=1)
    improve(tmp_path / "improve", 0.96)
    improve(tmp_path / "random directions", None, direction="random")
    return tmp_path


def test_every_search_is_there_with_its_cost_and_interval(folder: Path) -> None:
    png, pdf, kept = draw("spent", folder, folder / "figures")
    assert png.stat().st_size > 10_000
    assert pdf.is_file()
    table = pd.read_csv(kept).set_index(["search", "spent"])
    assert list(table.index) == [
        ("grid", 16.0),  # all seeds had a say
        ("hd", 6.0),
        ("improve", 5.6),  # 10 + 10 + 18 + 2 x 9, without the judgement
        ("ours", 10.0),  # 22 + 2 x 39
        ("random_space", 7.0),
        ("tpe", 5.0),
        ("tpe", 20.0),
    ]
    assert table.loc[("tpe", 20.0), "mean"] == pytest.approx(0.945)
    error = 0.01 / math.sqrt(2) / math.sqrt(2)
    assert table.loc[("tpe", 20.0), "half"] == pytest.approx(t.ppf(0.975, 1) * error)
    assert table.loc[("ours", 10.0), "mean"] == pytest.approx(0.94)
    assert list(table["seeds"]) == [2, 1, 1, 2, 1, 2, 2]
    assert math.isnan(table.loc[("hd", 6.0), "half"])
    again = draw("spent", folder, folder / "again")
    assert again[0].read_bytes() == png.read_bytes()
    scores, _, unfinished = read_scores(folder)
    assert unfinished == 1
    assert {each.search for each in scores} <= set(TITLES)
    assert [each.search for each in scores if math.isnan(each.test_accuracy)] == ["improve_random"]


def test_it_is_drawn_from_all_runs_unless_a_folder_is_named(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    plot_commands.plot(["spent"], folder, Path("nowhere"), folder / "figures")
    assert capsys.readouterr().out == f"spent: {folder / 'figures' / 'spent.png'}\n"


def test_runs_that_cannot_be_compared_are_refused(folder: Path) -> None:
    search(folder / "mnist", "hd", 6, [0.9], data="mnist")
    with pytest.raises(ValueError, match="differ in data"):
        draw("spent", folder)
    search(folder / "a" / "x", "tpe", 5, [0.9], budget="50gradients")
    search(folder / "a" / "y", "tpe", 5, [0.9], budget="50gradients")
    with pytest.raises(ValueError, match="hold a seed of TPE twice"):
        draw("spent", folder / "a")
    search(folder / "b" / "x", "tpe", 5, [0.9])
    search(folder / "b" / "y", "tpe", 6, [0.9], setup="another")
    with pytest.raises(ValueError, match="both TPE, of other settings"):
        draw("spent", folder / "b")
    (folder / "c").mkdir()
    with pytest.raises(ValueError, match="no finished search under"):
        draw("spent", folder / "c")
