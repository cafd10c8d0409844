"""`--dry-run`: what a run would take, in about ten lines; minutes are from a step tried here."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from hypergrad.config import composition as configs
from hypergrad.config.schema import RunConfig

__all__ = ["show_cost", "show_sweep"]

SHOWN = 6  # rows of a table; the rest is counted


class Cost(NamedTuple):
    """What a run takes.

    Attributes:
        rows: Of each method: name, inner runs, inner steps, cost in gradient evaluations.
        seconds: Of a gradient evaluation.
        about: The network, the images and the device, for people.
        memory: What differentiation and images need, for people.
    """

    rows: list[tuple[str, int, int, float]]
    seconds: float
    about: str
    memory: str

    @property
    def whole(self) -> tuple[int, int, float]:
        """Inner runs, inner steps and gradient evaluations of all methods."""
        return (
            sum(r[1] for r in self.rows),
            sum(r[2] for r in self.rows),
            sum(r[3] for r in self.rows),
        )


def show_cost(experiment: str, overrides: Sequence[str]) -> int:
    """Print what a run would take; of a run made of runs, what each member would.

    Args:
        experiment: A name in `conf/experiment`.
        overrides: Hydra overrides.

    Returns:
        0.
    """
    config, _ = configs.compose(experiment, overrides)
    if not config.is_multirun:
        _print_methods(config)
        return 0
    from hypergrad.drivers.members import compose_member

    members = compose_member("", experiment, overrides).members
    # The other seeds of a table cell cost the same.
    own = [m for m in members if config.driver != "table" or m.config.seed == config.seed]
    _print_members([(member.name, member.config) for member in own], config.jobs)
    if len(own) < len(members):
        _say(f"of seed {config.seed} alone; there are {len(members)} members")
    return 0


def show_sweep(members: Sequence[tuple[str, RunConfig]], jobs: int) -> int:
    """Print what every member of a sweep would take.

    Args:
        members: Names and configurations.
        jobs: How many run at once.

    Returns:
        0.
    """
    _print_members(members, jobs)
    return 0


def _cost(config: RunConfig, seen: dict[tuple[str, ...], float]) -> Cost:
    """What a run takes; a step of the same network on the same images is tried once."""
    from hypergrad.differentiation.mode import median_seconds
    from hypergrad.drivers.context import computing, make_model, prepare
    from hypergrad.drivers.probe import training_step

    context = prepare(config, stand_in=True)
    config, plan = context.config, context.plan
    seeds = 1 if config.driver == "hypervariance" else len(config.seeds)
    rows = []
    for method in dict.fromkeys(inner.method for inner in plan.runs):
        own = [inner for inner in plan.runs if inner.method == method]
        steps = sum(inner.trajectories * inner.steps for inner in own)
        cost = sum(inner.whole_cost for inner in own)
        rows.append((method, seeds * len(own), seeds * steps, seeds * cost))
    settings = config.data, config.model, config.method.batch_size, config.precision
    key = (*map(repr, settings), str(context.device), config.threads)
    if key not in seen:
        with computing(config):
            step = training_step(config, context.data, make_model(config, context.data, 0))
            seen[key] = median_seconds(step)
    images = context.data.train.images.nbytes + context.data.test.images.nbytes
    about = (
        f"{config.driver}, {seeds} seed{'s' * (seeds > 1)}, {config.model.name} with "
        f"{context.parameters:,} parameters on {len(context.data.train):,} + "
        f"{len(context.data.test):,} images of {config.data.name}, {context.device}"
    )
    memory = f"{plan.memory_note}: {_mib(plan.memory_bytes)}; images {_mib(images)}"
    return Cost(rows, seen[key], about, memory)


def _print_methods(config: RunConfig) -> None:
    cost = _cost(config, {})
    _say(f"{config.experiment}: {cost.about}")
    table = _table("method")
    for name, runs, steps, gradients in cost.rows:
        table.add_row(name, *_numbers(runs, steps, gradients, cost.seconds))
    if len(cost.rows) > 1:
        table.add_row("all", *_numbers(*cost.whole, cost.seconds))
    Console().print(table)
    _say(f"memory beyond training: {cost.memory}")
    _print_end(cost.seconds, config.jobs)


def _print_members(members: Sequence[tuple[str, RunConfig]], jobs: int) -> None:
    seen: dict[tuple[str, ...], float] = {}
    costs = [(name, _cost(config, seen)) for name, config in members]
    table = _table("member")
    for name, cost in costs[:SHOWN]:
        table.add_row(name, *_numbers(*cost.whole, cost.seconds))
    if len(costs) > SHOWN:
        table.add_row(f"and {len(costs) - SHOWN} more")
    runs, steps, gradients = map(sum, zip(*(cost.whole for _, cost in costs), strict=True))
    seconds = sum(cost.whole[2] * cost.seconds for _, cost in costs)
    table.add_row("all", f"{runs:,}", f"{steps:,}", f"{gradients:,.0f}", _minutes(seconds))
    Console().print(table)
    _say(f"{costs[0][0]}: memory beyond training: {costs[0][1].memory}")
    _print_end(seconds / gradients if gradients else 0.0, jobs)


def _print_end(seconds: float, jobs: int) -> None:
    milliseconds = seconds * 1e3
    each = f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"
    several = f", shared by {jobs} processes" if jobs > 1 else ""
    told = f"minutes of computing{several}, at {each} ms a gradient here"
    _say(f"{told}; nothing was run (configuration: --cfg job)")


def _table(first: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in ("inner runs", "inner steps", "gradients", "minutes"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _numbers(runs: int, steps: int, gradients: float, seconds: float) -> Iterator[str]:
    yield from (f"{runs:,}", f"{steps:,}", f"{gradients:,.0f}", _minutes(gradients * seconds))


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.1f}" if seconds >= 60 else f"{seconds / 60:.2f}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _say(text: str) -> None:
    print(text)
