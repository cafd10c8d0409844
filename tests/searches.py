"""Run directories of searches, of plausible shape, written as a search writes them."""

import csv
import itertools
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

HEADER = (
    "setting seed trial schedule learning_rate factor momentum weight_decay outer_learning_rate "
    "validation_accuracy validation_loss test_accuracy train_loss diverged diverged_step steps "
    "gradients products seconds ensemble"
).split()
Row = dict[str, object]
RATES = (0.05, 0.1, 0.2, 0.4, 0.6)
SETTINGS = {"data": "cifar10", "model": "wrn_16_1", "scale": "paper", "search": "grid"}


def trial(setting: int, seed: int, accuracy: float, **fields: object) -> Row:
    """A row of `trials.csv`; one whose accuracy is below 0.11 diverged."""
    lost = accuracy < 0.11
    values = {
        "trial": f"{setting}-{seed}",
        "schedule": "multistep",
        "learning_rate": 0.2,
        "factor": 0.2,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "validation_accuracy": accuracy,
        "validation_loss": math.inf if lost else 2.3 * (1 - accuracy),
        "test_accuracy": accuracy,
        "diverged": int(lost),
        "diverged_step": 120 if lost else "",
    }
    return {"setting": setting, "seed": seed, **values, **fields}


def write_search(run: Path, rows: Iterable[Row], **summary: object) -> Path:
    """A run directory; `summary` replaces whole fields of `summary.json`, or adds settings."""
    run.mkdir(parents=True)
    with (run / "trials.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    settings = {**SETTINGS, "epochs": 50, "repeats": 3, "milestones": "0.3 0.6 0.8"}
    top = {"experiment": "baselines_cifar10", "status": "finished"}
    top |= {
        name: value for name, value in summary.items() if name in ("status", "progress", "best")
    }
    if "best" in top:  # a search names its choice by a trial; the first seed's here
        top["best"] = {"trial": f"{top['best']['setting']}-0", **top["best"]}
    settings |= {name: value for name, value in summary.items() if name not in top}
    (run / "summary.json").write_text(json.dumps({**top, "settings": settings}))
    return run


def multistep_rows(seeds: int = 3) -> list[Row]:
    """The 135 settings of the hand-tuned grid; those with a large step and momentum diverge."""
    grid = itertools.product(RATES, (0.1, 0.2, 0.4), (0.45, 0.9, 0.99), (2.5e-4, 5e-4, 1e-3))
    rows = []
    for setting, (rate, factor, momentum, decay) in enumerate(grid):
        speed = math.log10(rate / (1 - momentum))
        for seed in range(seeds):
            noise = np.random.default_rng([setting, seed]).standard_normal(2)
            accuracy = 0.875 - 0.02 * (speed - 0.3) ** 2 - 0.05 * max(speed - 0.8, 0) ** 2
            accuracy += 0.006 * math.log2(decay / 5e-4) - 0.004 * abs(math.log2(factor / 0.2))
            accuracy += 0.004 * noise[0]
            if speed + 0.15 * noise[1] > 1.45:
                accuracy = 0.1
            values = {"learning_rate": rate, "factor": factor, "momentum": momentum}
            rows.append(trial(setting, seed, accuracy, **values, weight_decay=decay))
    return rows


def cosine_rows(seeds: int = 3) -> list[Row]:
    """Five initial learning rates, no momentum, no weight decay."""
    rows = []
    for setting, rate in enumerate(RATES):
        for seed in range(seeds):
            noise = np.random.default_rng([setting, seed]).standard_normal()
            accuracy = 0.985 - 0.01 * math.log10(rate / 0.2) ** 2 + 0.001 * noise
            values = {"learning_rate": rate, "factor": "", "momentum": 0.0, "weight_decay": 0.0}
            rows.append(trial(setting, seed, accuracy, schedule="cosine", **values))
    return rows


def random_rows(settings: int = 100, seeds: int = 1) -> list[Row]:
    """Settings of 7 learning rates, 1 momentum and 1 weight decay; dangerous ones score chance."""
    rows = []
    for setting in range(settings):
        draw = np.random.default_rng(setting)
        rates, momentum = draw.uniform(-0.1, 1, 7), draw.uniform(0, 1.2)
        decay = draw.uniform(0, 4e-3)
        for seed in range(seeds):
            noise = np.random.default_rng([setting, seed]).standard_normal()
            speed = rates.max() / max(1 - momentum, 0.02)
            accuracy = 0.86 - 0.12 * rates[-1] - 30 * decay + 0.01 * noise
            if momentum > 1 or speed + noise > 4 or rates[-1] < 0:
                accuracy = 0.1 if momentum > 1 or speed > 6 else 0.25 + 0.1 * noise
            values = {"schedule": "windows", "factor": "", "momentum": momentum}
            joined = " ".join(map(repr, map(float, rates)))
            values |= {"learning_rate": joined, "weight_decay": decay}
            rows.append(trial(setting, seed, max(accuracy, 0.1), **values))
    return rows
