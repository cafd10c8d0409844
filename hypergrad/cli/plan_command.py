"""`hypergrad plan`: steps, minutes and memory of a run in every mode, from a probe of seconds."""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from hypergrad.config import composition as configs
from hypergrad.config.checks import ConfigError

__all__ = ["show_plan"]


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
    import torch

    from hypergrad.drivers.context import computing, make_model, prepare
    from hypergrad.drivers.modes import ModeCost, mode_costs
    from hypergrad.drivers.probe import horizon_of, predicted_seconds, probe, states, training_step
    from hypergrad.drivers.threads import fastest_threads

    context = prepare(config)
    config, data = context.config, context.data
    model = make_model(config, data, config.seed)
    if config.threads == "auto" and context.device.type == "cpu":
        threads, _ = fastest_threads(training_step(config, data, model), torch.get_num_threads())
        config = replace(config, threads=str(threads))
    with computing(config):
        found = probe(config, data, model)
    horizon = horizon_of(config, len(data.train))
    costs = dict(mode_costs(config, data, model, found))
    if isinstance(costs["reverse"], ModeCost):
        size = costs["reverse"].bytes / (states(config, len(data.train), model, 1e9).states + 2)
        few = ((2 * horizon) ** 0.5 + 3) * size / 1e9
        costs["reverse, few states"] = mode_costs(config, data, model, found, few)["reverse"]
    count = int(costs["forward"].note.split()[0]) if isinstance(costs["forward"], ModeCost) else 0
    outer = sum(run.method == "ours" for run in context.plan.runs)
    print(
        f"{config.experiment}: {config.model.name} with {context.parameters:,} parameters on "
        f"{data.name}\n{len(config.seeds)} seeds, {outer} outer steps, {horizon:,} inner steps "
        f"each; a training step takes {found.steps.train * 1e3:.3g} ms (threads={config.threads})"
    )
    table = Table("mode", "minutes", "a step", "memory", "")
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
    Console().print(table)
    print("* as configured; G: a training step. Minutes of computing, all methods and seeds")
    each = (found.steps.forward - found.steps.train) / max(count, 1)
    if count and each > 0:
        print(
            f"forward mode takes {5 * model.theta().nbytes / 1e6:.2g} MB and "
            f"{each / found.steps.train:.2f} G more for each further value, reverse mode nothing: "
            f"level at {found.steps.back / each:.0f} values"
        )
    return 0
