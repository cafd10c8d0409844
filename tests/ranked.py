"""Hypergradients by however many ranks torchrun starts; rank 0 writes them down.

`torchrun --standalone --nproc-per-node 2 tests/ranked.py OUTPUT`
"""

import json
import sys
from pathlib import Path

import torch
from problems import Problem, digits_problem
from torch import nn

from hypergrad.api import learn_schedule
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd_schedules import paper_optimizer, sgd_schedule
from hypergrad.differentiation.forward import hypergradients
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.parallel.ranks import Ranks, join_ranks

# Windows that begin one after the other, and a truncation that skips products here and there: the
# ranks have rows to multiply at different times.
SCHEDULE = sgd_schedule((0.05, 0.1, 0.02), (0.5, 0.8), (1e-3,))
CASES = {
    "mlp loop": ("mlp", {"hidden": 16}, 60),
    "mlp vmap": ("mlp", {"hidden": 16}, 60),
    "mlp stacked": ("mlp", {"hidden": 16}, 60),
    "lenet loop": ("lenet", {}, 12),
    "lenet fused": ("lenet", {}, 12),
    "lenet stacked": ("lenet", {}, 12),
    "wrn loop": ("wrn", {"depth": 10}, 6),
    "wrn fused": ("wrn", {"depth": 10}, 6),
    "dropout loop": ("dropout", {}, 20),
}


def problem_of(name: str, options: dict) -> Problem:
    if name != "dropout":
        return digits_problem(name, batch_size=8, **options)
    problem = digits_problem("mlp", batch_size=8)
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 10)
    model = FlatModel(nn.Sequential(*layers).double())
    return problem._replace(model=model, theta=model.theta())


def hypergradients_of(case: str, ranks: Ranks) -> dict:
    name, options, horizon = CASES[case]
    problem = problem_of(name, options)
    torch.manual_seed(ranks.rank)
    if ranks.rank:  # where the others begin does not count
        problem.theta.add_(1.0)
    found = hypergradients(
        problem.model,
        problem.theta,
        problem.batch_at,
        problem.validation,
        SCHEDULE,
        horizon,
        ForwardOptions(clip_products=100.0, truncation=0.34, strategy=case.split()[1]),
        ranks,
        InnerOptimizer(transform=ElementwiseClip(0.05)),
    )
    return {
        "values": found.values,
        "diagnostics": [list(entry) for entry in found.diagnostics],
        "theta": found.state.theta.tolist(),
        "buffers": [buffer.tolist() for buffer in found.state.buffers.values()],
    }


def history(ranks: Ranks) -> list:
    """What `learn_schedule` returns, as plain numbers; its steps are those a GPU would replay."""
    problem = digits_problem("mlp", hidden=8)
    steps = learn_schedule(
        problem.model.module,
        problem.images[:400],
        problem.labels[:400],
        epochs=2,
        batch_size=32,
        outer_steps=3,
        optimizer=paper_optimizer((2, 1, 1), clip=3.0),
        replay="always",
        ranks=ranks,
    )
    return [
        [
            step.schedule.flat,
            step.hypergradients,
            step.validation_loss,
            step.validation_accuracy,
            step.gradients,
            step.products,
        ]
        for step in steps
    ]


def main() -> None:
    ranks = join_ranks()
    found = {case: hypergradients_of(case, ranks) for case in CASES}
    found["history"] = history(ranks)
    mine = json.dumps(found)
    assert ranks.broadcast_object(mine) == mine, "the ranks do not return the same"
    if ranks.rank == 0:
        Path(sys.argv[1]).write_text(mine)
    ranks.leave()


if __name__ == "__main__":
    main()
