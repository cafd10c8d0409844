"""Hypergradients by however many ranks torchrun starts; rank 0 writes them down.

`torchrun --standalone --nproc-per-node 2 tests/ranked.py OUTPUT`
"""

import json
import sys
from pathlib import Path

import torch
from problems import digits_problem

from hypergrad.forward import ForwardOptions, hypergradients
from hypergrad.ranks import join_ranks
from hypergrad.schedule import Schedule

# Windows that begin one after the other, and a truncation that skips products here and there: the
# ranks have rows to multiply at different times.
SCHEDULE = Schedule((0.05, 0.1, 0.02), (0.5, 0.8), (1e-3,))
CASES = {
    "mlp loop": ("mlp", {"hidden": 16}, 60),
    "mlp vmap": ("mlp", {"hidden": 16}, 60),
    "mlp stacked": ("mlp", {"hidden": 16}, 60),
    "lenet loop": ("lenet", {}, 12),
    "lenet fused": ("lenet", {}, 12),
    "lenet stacked": ("lenet", {}, 12),
    "wrn loop": ("wrn", {"depth": 10}, 6),
    "wrn fused": ("wrn", {"depth": 10}, 6),
}


def main() -> None:
    ranks = join_ranks()
    found = {}
    for case, (name, options, horizon) in CASES.items():
        problem = digits_problem(name, batch_size=8, **options)
        if ranks.rank:  # what the others begin with does not count
            problem.theta.add_(1.0)
        result = hypergradients(
            problem.model,
            problem.theta,
            problem.batch_at,
            problem.validation,
            SCHEDULE,
            horizon,
            ForwardOptions(0.05, 100.0, 0.34, strategy=case.split()[1]),
            ranks,
        )
        found[case] = {
            "values": result.values,
            "trust": [list(entry) for entry in result.trust],
            "theta": result.state.theta.tolist(),
            "buffers": [buffer.tolist() for buffer in result.state.buffers.values()],
        }
    everyone = torch.tensor([found[case]["values"] for case in CASES], dtype=torch.float64)
    ranks.agree([first := everyone.clone()])
    assert torch.equal(first, everyone), "the ranks do not return the same"
    if ranks.rank == 0:
        Path(sys.argv[1]).write_text(json.dumps(found))
    ranks.leave()


if __name__ == "__main__":
    main()
