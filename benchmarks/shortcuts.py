"""`python -m benchmarks.shortcuts`: what bfloat16 and short horizons are worth.

A schedule is learned at full and with short early horizons, for several seeds, in one thread; after
every outer step the best schedule so far is trained with on the whole training set. Then whole
outer steps are taken again in bfloat16 from the same schedule, and hypergradients compared.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from benchmarks.outer_steps import VARIANTS, compare, learn
from benchmarks.record import write_provenance
from benchmarks.shortcuts_report import draw, print_report
from hypergrad.cli.malloc import keep_freed_memory
from hypergrad.config.composition import compose
from hypergrad.drivers.context import make_model, prepare
from hypergrad.runs.run_log import CsvLog

__all__ = ["main"]

LEARNING = (
    "variant seed outer_step seconds gradients products validation_accuracy best test_accuracy"
).split()
AGREEMENT = "seed outer_step way kind index value exact hypergradient".split()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, print its tables, draw its figure.

    Args:
        arguments: As of the command line; None takes those.
    """
    given = _parse(arguments)
    folder = given.output
    if not given.draw:
        _run(given)
    learning = pd.read_csv(folder / "learning.csv")
    agreement = pd.read_csv(folder / "agreement.csv")
    print_report(learning, agreement)
    draw(learning, agreement, folder)
    print(f"written: {folder}")


def _run(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    kept, folder = keep_freed_memory(), given.output
    folder.mkdir(parents=True, exist_ok=True)
    config, text = compose("fig1_mnist", given.overrides)
    context = prepare(config)
    settings = {"threads": torch.get_num_threads(), "keeps_freed_memory": kept}
    write_provenance(folder, str(context.device), config.seeds, sys.argv, **settings)
    (folder / "config.yaml").write_text(text)
    learning = CsvLog(folder / "learning.csv", LEARNING)
    agreement = CsvLog(folder / "agreement.csv", AGREEMENT)
    for seed in config.seeds:
        model = make_model(config, context.data, seed)
        histories = {}
        for name in ("full", *given.shortcuts):
            histories[name], rows = learn(config, model, context.data, seed, VARIANTS[name])
            learning.append({"variant": name, "seed": seed, **row} for row in rows)
            last = rows[-1]
            print(f"seed {seed} {name}: {last['seconds']:.0f} s, {last['test_accuracy']:.2%}")
        for number in given.compared:
            if number < len(histories["full"]):
                exact = histories["full"][number]
                rows = compare(config, model, context.data.train, seed, number, exact)
                agreement.append({"seed": seed, **row} for row in rows)
    agreement.sync()  # a file with a header, if nothing was compared
    learning.close()
    agreement.close()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.shortcuts", description=__doc__)
    add = parser.add_argument
    add(
        "overrides",
        nargs="*",
        help="settings of `hypergrad run fig1_mnist`, such as data.root=FOLDER",
    )
    known = [name for name in VARIANTS if name != "full"]
    add("--shortcuts", nargs="+", default=known, choices=known, help="which to set beside full")
    add("--compared", nargs="*", type=int, default=[2, 5], help="outer steps to take again")
    add("--output", type=Path, default=Path("outputs/shortcuts"), help="folder of CSV and figure")
    add(
        "--draw", action="store_true", help="only report and draw from the CSV files that are there"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
