"""`python -m benchmarks [outer | step | memory | loop | overheads]`: measure, print, write CSV.

Without a name: all five, as far as a CPU gets in about an hour.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import loop, memory, outer, overheads, step
from benchmarks.record import a_device, at_least

__all__ = ["main"]

BENCHMARKS = {"outer": outer, "step": step, "memory": memory, "loop": loop, "overheads": overheads}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for.

    Args:
        arguments: As of the command line; None takes those.
    """
    given = _parse(arguments)
    names = [given.benchmark] if given.benchmark else list(BENCHMARKS)
    for name in names:
        asked = given if given.benchmark else _parse([name])
        folder = asked.output or Path("outputs/bench", name)
        BENCHMARKS[name].measure(asked, folder)
        print(f"written: {folder}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("--threads", type=at_least(1), help="CPU threads; left to PyTorch if not given")
    add("--device", default="cpu", type=a_device)
    add("--keep-memory", action=argparse.BooleanOptionalAction, default=True)
    add("--output", type=Path, help="folder; default: outputs/bench/<name>")
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="benchmark", title="benchmarks")
    for name, module in BENCHMARKS.items():
        text = (module.__doc__ or "").partition(": ")[2].strip()
        module.add_arguments(
            commands.add_parser(name, parents=[common], help=text, description=text)
        )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
