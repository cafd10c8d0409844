"""Optimisers without a schedule, beside the record of improve: schedule-free AdamW and Prodigy.

    pip install -e '.[peers]'
    python -m benchmarks.without_schedules improve_digits 1000 1008 results.csv

As their pages say to use them, nothing tuned, in a plain loop, on weights, order and test set of
the record's own trainings, so that differences to its rows are paired.
"""

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.improvement import FIRST, RETRAININGS
from benchmarks.paired import paired
from hypergrad.config.composition import compose
from hypergrad.drivers.context import RunContext, make_model, prepare
from hypergrad.drivers.improve.space import move_space
from hypergrad.drivers.improve.subjects import subject_of
from hypergrad.training.improvement.trainings import Key

__all__ = ["summarised"]

COLUMNS = "experiment seed method accuracies".split()


def schedule_free(parameters: Any, steps: int) -> tuple[Any, None]:  # noqa: ANN401
    """AdamWScheduleFree, at its default rate, with the short warm-up that its page advises."""
    from schedulefree import AdamWScheduleFree  # pyright: ignore[reportMissingImports]

    return AdamWScheduleFree(parameters, warmup_steps=steps // 20), None


def prodigy(parameters: Any, steps: int) -> tuple[Any, Any]:  # noqa: ANN401
    """Prodigy at a rate of one, with the cosine that its page advises."""
    from prodigyopt import Prodigy  # pyright: ignore[reportMissingImports]

    optimizer = Prodigy(parameters, lr=1.0)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)


def adamw(parameters: Any, steps: int) -> tuple[Any, Any]:  # noqa: ANN401
    """torch.optim's AdamW at its default rate, with a cosine."""
    optimizer = torch.optim.AdamW(parameters)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)


METHODS: dict[str, Callable[[Any, int], tuple[Any, Any]]] = {
    each.__name__: each for each in (schedule_free, prodigy, adamw)
}


def trained(context: RunContext, seed: int, number: int, make: Callable[..., Any]) -> float:
    """Test accuracy of one training of the record's, by another optimiser."""
    subject = subject_of(
        Key("judge", FIRST + number), seed, context.config, context.data, move_space(context.config)
    )
    net: nn.Module = make_model(context.config, context.data, subject.seed).module
    horizon = subject.problem.horizon
    optimizer, scheduler = make(net.parameters(), horizon)
    _mode(optimizer, "train")
    net.train()
    for step in range(horizon):
        images, labels = subject.problem.minibatches.at(step)
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    _mode(optimizer, "eval")
    net.eval()
    with torch.no_grad():
        hits = [(net(images).argmax(1) == labels).float() for images, labels in subject.validation]
    return torch.cat(hits).mean().item()


def study(experiment: str, seeds: Sequence[int], path: Path, overrides: Sequence[str]) -> None:
    """Add the rows that are missing."""
    context = prepare(compose(experiment, overrides)[0])
    if not path.exists():
        path.write_text(",".join(COLUMNS) + "\n")
    done = {(row["seed"], row["method"]) for row in _rows(path)}
    for seed in seeds:
        for name, make in METHODS.items():
            if (str(seed), name) in done:
                continue
            found = [trained(context, seed, number, make) for number in range(RETRAININGS)]
            scores = " ".join(f"{each:.6f}" for each in found)
            with path.open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow([experiment, seed, name, scores])


def summarised(path: Path, record: Path) -> list[str]:
    """Lines of a Markdown table: mean, worst, and what the record's improved is above each."""
    ours = {row["seed"]: _mean(row) for row in _rows(record) if row["method"] == "improved"}
    lines = []
    for name in METHODS:
        own = [row for row in _rows(path) if row["method"] == name]
        every = [100 * float(each) for row in own for each in row["accuracies"].split()]
        against = paired([ours[row["seed"]] for row in own], [_mean(row) for row in own])
        lines.append(f"| {name} | {len(own)} | {mean(every):.2f} | {min(every):.2f} | {against} |")
    return lines


def _mean(row: dict[str, str]) -> float:
    return mean(100 * float(each) for each in row["accuracies"].split())


def _mode(optimizer: Any, name: str) -> None:  # noqa: ANN401
    """Schedule-free optimisers keep two sets of weights: one to train at, one to judge."""
    if hasattr(optimizer, name):
        getattr(optimizer, name)()


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print("\n".join(summarised(Path(sys.argv[1]), Path(sys.argv[2]))))
    else:
        seeds = range(int(sys.argv[2]), int(sys.argv[3]))
        study(sys.argv[1], seeds, Path(sys.argv[4]), sys.argv[5:])
