"""`hypergrad plan`: steps, minutes and memory of a run in every mode, from a probe of seconds."""

import textwrap
from collections.abc import Sequence

from rich.console import Console

from hypergrad.config import composition as configs
from hypergrad.config.checks import ConfigError
from hypergrad.runs.tables import Table

__all__ = ["advice_on", "show_plan"]

WIDTH = 80
FEW, MANY = 8, 64  # values: what was compared at equal cost


def show_plan(experiment: str, overrides: Sequence[str]) -> int:
    """Print what a run would take.

    Args:
        experiment: A name in `conf/experiment`.
        overrides: Hydra overrides.

    Returns:
        0.

    Raises:
        ConfigError: For an experiment that learns no schedule, or cannot run.
    """
    config, _ = configs.compose(experiment, overrides)
    if config.is_multirun or config.driver != "learn" or config.method.name == "hd":
        raise ConfigError(f"{experiment} learns no schedule by itself: run it with --dry-run")
    from hypergrad.drivers.context import computing, make_model, prepare
    from hypergrad.drivers.modes import ModeCost, mode_costs
    from hypergrad.drivers.probe import horizon_of, predicted_seconds, probe, states
    from hypergrad.drivers.threads import with_threads

    context = prepare(config)
    config, data = context.config, context.data
    model = make_model(config, data, config.seed)
    config, _ = with_threads(config, data, model)
    with computing(config):
        found = probe(config, data, model)
    horizon = horizon_of(config, len(data.train))
    costs = dict(mode_costs(config, data, model, found))
    reverse = costs["reverse"]
    if isinstance(reverse, ModeCost):
        every = states(config, len(data.train), model, 1e9)
        few = ((2 * horizon) ** 0.5 + 3) * every.bytes / (every.states + 2) / 1e9
        costs["reverse, few states"] = mode_costs(config, data, model, found, few)["reverse"]
    outer = sum(run.method == "ours" for run in context.plan.runs)
    _say(
        f"{config.experiment}: {config.model.name} with {context.parameters:,} parameters on "
        f"{data.name}"
    )
    _say(f"{len(config.seeds)} seeds, {outer} outer steps, {horizon:,} inner steps each")
    _say(f"G, a training step, takes {found.steps.train * 1e3:.3g} ms (threads={config.threads})")
    table = Table("mode", "minutes", "a step", "memory", "")
    for column in table.columns[:4]:
        column.no_wrap = True
    for column in table.columns[1:4]:
        column.justify = "right"
    for mode, cost in costs.items():
        name = f"{mode} *" if mode == config.method.mode else mode
        if isinstance(cost, str):
            table.add_row(name, "-", "-", "-", cost)
            continue
        seconds = predicted_seconds(config, data, context.parameters, found, cost.seconds)
        table.add_row(
            name,
            f"{seconds / 60:,.1f}" if seconds > 600 else f"{seconds / 60:.2f}",
            f"{cost.seconds / found.steps.train:.1f} G",
            f"{cost.bytes / 1e6:,.0f} MB",
            cost.note,
        )
    console = Console()
    console.print(table, width=min(WIDTH, console.width))
    _say("* as configured. Minutes are of computing, of all methods and seeds")
    forward = costs["forward"]
    if isinstance(forward, ModeCost) and isinstance(reverse, ModeCost):
        count = int(forward.note.split()[0])
        each = (forward.seconds - found.steps.train) / count
        if each > 0:
            level = (reverse.seconds - found.steps.train) / each
            _say(
                f"forward mode takes {forward.bytes / count / 1e6:.2g} MB and "
                f"{each / found.steps.train:.2f} G more for each further value, reverse mode "
                f"nothing: level at {level:.0f} values"
            )
        if advice := advice_on(count, config.outer.descent):
            _say(advice)
    return 0


def advice_on(values: int, descent: str) -> str:
    """Return what the records say of so many values; nothing between a handful and many.

    Args:
        values: That are learned.
        descent: How they move.
    """
    if values >= MANY and descent == "signs":
        return (
            f"{values} values: outer.descent=averaged, with first moves of half the size, was "
            "ahead of signs and of a black-box search with 64 and 256 (experiments/many_values)"
        )
    if values <= FEW:
        return (
            f"{values} values: so few, a black-box search or the ladder of hypergrad improve did "
            "as well at equal cost (experiments/improve, experiments/many_values)"
        )
    return ""


def _say(text: str) -> None:
    print(textwrap.fill(text, WIDTH))
