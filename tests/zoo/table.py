"""Writes `docs/zoo.md`: what happens to each network in each mode.

`PYTHONPATH=.:tests python -m zoo.table` from the root of the repository.
"""

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from zoo.network import Network
from zoo.networks import ALL, KINDS
from zoo.outcome import MODES, TYPES, outcome

TABLE = Path(__file__).parents[2] / "docs" / "zoo.md"
INTRODUCTION = """\
# The zoo: what is exact, and what is refused

Small networks of the sort that people bring, in `tests/zoo/`. For each, hypergradients of learning
rate, momentum and weight decay are compared with central differences of an ordinary training loop:
the plain module, `torch.optim.SGD`, no functional call. Validation is under `module.eval()`, but
layers of batch normalisation that were left in training mode take the statistics of the batch.

- **exact**: the final weights and all hypergradients are those of the plain loop, in float64 (to
  1e-8 of the largest) and in float32 (to 5e-5); a second call gives the same numbers; the
  module is as it was.
- **refused**: a `ValueError` in one line names the network's class, the layer or the setting.
- anything else is an error of this library: **wrong** is another number, **raised** an error that
  names nothing.

Columns are the strategies of forward mode and reverse mode. A cell is for both precisions, unless
it names them. The table is written by `python -m zoo.table` (with `tests` on the path); the slow
tests look at every cell.
"""


def tried(network: Network) -> dict[tuple[str, str], str]:
    """Return what comes of a network, by mode and precision."""
    return {
        (mode, precision): outcome(network, mode, precision).kind
        for mode in MODES
        for precision in TYPES
    }


def cells(found: Mapping[tuple[str, str], str]) -> tuple[str, ...]:
    """Return a cell a column.

    Args:
        found: What came out, by mode and precision.
    """
    own = []
    for mode in MODES:
        kinds = {precision: found.get((mode, precision), "") for precision in TYPES}
        if len(set(kinds.values())) == 1:
            own.append(kinds["float64"])
        else:
            own.append(", ".join(f"{kind} ({precision})" for precision, kind in kinds.items()))
    return tuple(own)


def rows(text: str) -> dict[str, tuple[str, ...]]:
    """Return the cells of every network in a table that has been written."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {name: tuple(own) for name, *own in lines if name != "network"}


def written() -> str:
    """Return the page; it takes a minute or two."""
    lines = [INTRODUCTION]
    for kind, networks in KINDS.items():
        lines += [f"## {kind}\n", f"| network | {' | '.join(MODES)} |"]
        lines.append("|---" * (1 + len(MODES)) + "|")
        for network in networks:
            lines.append(f"| {network.name} | {' | '.join(cells(tried(network)))} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    TABLE.write_text(written(), encoding="utf-8")
    print(f"{len(ALL)} networks: {TABLE.name}", file=sys.stderr)
