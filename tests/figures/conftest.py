"""Run directories of plausible shape, written as a run writes them."""

import csv
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hypergrad.core.basis import Basis, Hats, Windows, described, span

INNER = (
    "seed method outer_step epoch step train_loss train_accuracy validation_loss "
    "validation_accuracy test_accuracy learning_rate momentum weight_decay seconds"
).split()
OUTER = (
    "seed outer_step kind index start_epoch end_epoch value hypergradient step_size sign "
    "contributing_steps"
).split()
HD_COLUMNS = (
    "seed step epoch learning_rate momentum weight_decay learning_rate_hypergradient "
    "momentum_hypergradient weight_decay_hypergradient"
).split()
COUNTS = {"learning_rate": 5, "momentum": 1, "weight_decay": 1}
GAMMA = {"learning_rate": 0.1, "momentum": 0.15, "weight_decay": 4e-4}
SIZE = {"learning_rate": 2.0, "momentum": 0.05, "weight_decay": 30.0}


@dataclass(frozen=True)
class Sample:
    """The shape of a made-up run."""

    experiment: str = "fig1"
    data: str = "cifar10"
    model: str = "wrn_16_1"
    scale: str = "paper"
    epochs: float = 50
    first_epochs: float = 1  # the horizon of outer step 0
    rows_per_epoch: int = 1
    outer_steps: int = 10
    logged_outer_steps: int = 10
    seeds: int = 1
    steps_per_epoch: int = 186
    ceiling: float = 0.87
    best: int = 8
    status: str = "finished"
    fraction: float = 1.0
    hd: str = "tame"  # tame, wild, lost or none
    diverged: int | None = None  # an outer step whose loss and hypergradients are NaN


MakeRun = Callable[..., Path]
ADAMW: dict[str, Basis] = {
    "learning_rate": Windows(5),
    "beta1": Windows(1),
    "weight_decay_matrices": Hats(5),
}
# Starting value and factor of an outer step's move.
STARTS = {"learning_rate": (1e-3, 1.9), "beta1": (0.9, 0.99), "weight_decay_matrices": (0.01, 1.1)}


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A function that writes a run directory; keywords are the fields of `Sample`."""

    def make(folder: str = "run", **fields: object) -> Path:
        return write_run(tmp_path / folder, Sample(**fields))  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_adamw(tmp_path: Path) -> MakeRun:
    """A function that writes a run of AdamW; `bases` may add hyperparameters."""

    def make(folder: str = "adamw", bases: dict[str, Basis] | None = None, **fields: int) -> Path:
        return write_adamw(tmp_path / folder, ADAMW if bases is None else bases, **fields)

    return make


def write_adamw(run: Path, bases: dict[str, Basis], outer_steps: int = 6) -> Path:
    """Write a finished run of AdamW from starting values, over bases of any kind."""
    write_run(run, Sample(outer_steps=outer_steps, logged_outer_steps=0, hd="none", best=4))
    rng = np.random.default_rng(7)
    epochs, steps = 50.0, 1000
    outer: list[list[object]] = []
    inner: list[list[object]] = []
    for outer_step in range(outer_steps):
        for name, basis in bases.items():
            start, factor = STARTS.get(name, (1.0, 1.1))
            for index in range(basis.count * basis.size):
                function = index // basis.size
                place = 2 * function / max(basis.count - 1, 1) - 1  # falls over the run
                shift = 0.3 * outer_step * rng.standard_normal() if basis.size > 1 else 0.0
                value = start * factor ** (-place * outer_step + shift)
                value = value / (2 * function + 1) if name == "noise" else value
                window = span(basis, function, steps)
                edges = [epochs * edge / steps for edge in window]
                h = 0.1 * float(rng.standard_normal()) * math.exp(-0.3 * outer_step)
                kind = described(basis)["kind"]
                outer.append([0, outer_step, name, index, *edges, value, h, 0.1, 1, 9, kind])
        for epoch in range(1, 51):
            accuracy = 0.85 * (1 - math.exp(-epoch * (1 + outer_step) / 30))
            head = [0, "ours", outer_step, epoch, 20 * epoch, 1.0, accuracy, 1.0, accuracy]
            inner.append([*head, accuracy, *(0.1 for _ in bases), 1.5])
    names = [name for name in INNER[:-1] if name not in COUNTS]
    _write(run / "inner.csv", [*names, *bases, "seconds"], inner)
    _write(run / "outer.csv", [*OUTER, "basis"], outer)
    _write(run / "hd.csv", ["seed", "step", "epoch", *bases], [])
    summary = json.loads((run / "summary.json").read_text())
    summary["results"] = [
        {**result, "method": {"sgd": "start"}.get(str(result["method"]), result["method"])}
        for result in summary["results"]
        if result["method"] != "hd_retrained"
    ]
    (run / "summary.json").write_text(json.dumps(summary))
    kept = {n: described(basis) for n, basis in bases.items() if not isinstance(basis, Windows)}
    schedule = {"seed": 0, "outer_step": 4, "bases": kept}
    (run / "schedule.json").write_text(json.dumps({"schedules": [schedule]}))
    return run


def write_run(run: Path, sample: Sample) -> Path:
    """Write all that the figures read."""
    run.mkdir(parents=True)
    inner: list[list[object]] = []
    outer: list[list[object]] = []
    hd: list[list[object]] = []
    finished = sample.status == "finished"
    for seed in range(sample.seeds):
        _ours(sample, seed, inner, outer)
        if sample.hd != "none":
            _hd(sample, seed, inner, hd)
        if finished:
            for method, share in (("ours_retrained", 1.0), ("hd_retrained", 0.93), ("sgd", 0.99)):
                _curve(sample, inner, seed, method, 0, sample.epochs, share * sample.ceiling)
    _write(run / "inner.csv", INNER, inner)
    _write(run / "outer.csv", OUTER, outer)
    _write(run / "hd.csv", HD_COLUMNS, hd)
    settings = {
        "data": sample.data,
        "model": sample.model,
        "scale": sample.scale,
        "epochs": sample.epochs,
        "outer_steps": sample.outer_steps,
    }
    summary = {
        "experiment": sample.experiment,
        "status": sample.status,
        "message": "",
        "progress": {"phase": "outer step", "fraction": sample.fraction},
        "settings": settings,
        "results": _results(sample) if finished else [],
        "headline": "",
    }
    (run / "summary.json").write_text(json.dumps(summary))
    return run


def _results(sample: Sample) -> list[dict[str, object]]:
    return [
        {
            "seed": seed,
            "method": method,
            "test_accuracy": share * sample.ceiling + 0.002 * seed,
            "validation_accuracy": None,
            "diverged": False,
            "outer_step": sample.best if method == "ours_retrained" else None,
        }
        for seed in range(sample.seeds)
        for method, share in (("ours_retrained", 1.0), ("hd_retrained", 0.93), ("sgd", 0.99))
    ]


def _ours(sample: Sample, seed: int, inner: list[list[object]], outer: list[list[object]]) -> None:
    rng = np.random.default_rng(seed)
    values = {kind: np.zeros(count) for kind, count in COUNTS.items()}
    for outer_step in range(sample.logged_outer_steps):
        horizon = sample.first_epochs if outer_step == 0 else sample.epochs
        lost = outer_step == sample.diverged
        for kind, count in COUNTS.items():
            target = np.linspace(6.5, 1.5, count) * GAMMA[kind]
            for index in range(count):
                value = values[kind][index]
                toward = value - target[index] + 0.3 * GAMMA[kind] * rng.standard_normal()
                h = SIZE[kind] * toward * (1 + 3 * math.exp(-outer_step))
                if outer_step == 0 and kind != "learning_rate":
                    h = 0.0
                h = math.nan if lost else h
                sign = 0 if lost or h == 0 else int(math.copysign(1, h))
                start, end = (horizon * k / count for k in (index, index + 1))
                row = [seed, outer_step, kind, index, start, end, value, h, GAMMA[kind], sign, 100]
                outer.append(row)
                values[kind][index] -= GAMMA[kind] * sign
        reach = 1 - 0.9 * math.exp(-0.8 * outer_step)
        final = 0.1 + (sample.ceiling - 0.1) * reach if outer_step else 0.1
        final = 0.1 if lost else final
        _curve(sample, inner, seed, "ours", outer_step, horizon, final, lost)


def _curve(
    sample: Sample,
    inner: list[list[object]],
    seed: int,
    method: str,
    outer_step: int,
    horizon: float,
    final: float,
    lost: bool = False,
) -> None:
    key = [seed, outer_step, *method.encode()]
    rng = np.random.default_rng(key)
    for row in range(1, round(horizon * sample.rows_per_epoch) + 1):
        epoch = row / sample.rows_per_epoch
        speed = 1 - math.exp(-8 * epoch / sample.epochs)
        mean = 0.1 + (final - 0.1) * speed
        noise = 0.1 * (1 - mean) * (1 - epoch / horizon) * rng.standard_normal()
        accuracy = 0.1 if lost else mean + noise
        loss = math.nan if lost and row > 2 else 2.3 * (1 - accuracy)
        steps = round(epoch * sample.steps_per_epoch)
        validation = [loss, accuracy] if method in ("ours", "hd") else ["", ""]
        head = [seed, method, outer_step, epoch, steps, loss, accuracy]
        inner.append([*head, *validation, accuracy, 0.1, 0.9, 5e-4, 1.5 * row])


def _hd(sample: Sample, seed: int, inner: list[list[object]], hd: list[list[object]]) -> None:
    rng = np.random.default_rng(seed + 100)
    steps = round(sample.epochs * sample.steps_per_epoch)
    scale = 1.0 if sample.hd == "tame" else 15.0
    rates = np.abs(np.cumsum(rng.standard_normal(steps))) / math.sqrt(steps) * 0.3
    for step in range(steps):
        rate = float(rates[step] * scale)
        if sample.hd == "lost" and step > steps // 2:
            rate = math.nan
        momentum, decay = 0.1 * rate - 0.02 * scale, 4e-4 * scale * rate
        epoch = (step + 1) / sample.steps_per_epoch
        hd.append([seed, step, epoch, rate, momentum, decay, 0.1, 0.1, 0.1])
    _curve(sample, inner, seed, "hd", 0, sample.epochs, 0.85 * sample.ceiling)


def _write(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
