"""The command that trains with a run's schedule elsewhere, and says whether it holds."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hypergrad.cli.output_file import check_output
from hypergrad.config import composition as configs
from hypergrad.config.checks import ConfigError
from hypergrad.config.recorded import check_overrides_recorded
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.provenance import sessions

__all__ = ["confirm_schedule"]


def confirm_schedule(
    path: Path,
    overrides: Sequence[str],
    horizon: str,
    trainings: int,
    output: Path | None,
    seed: int | None,
    trust: bool,
) -> None:
    """Train with a schedule on fresh seeds, print what came of it, and write it to a file.

    Args:
        path: Run directory.
        overrides: Of the run's configuration: another network, other data.
        horizon: `5x`, or epochs.
        trainings: With the schedule, and with what it is set beside.
        output: File of the schedule with what was seen; None for none.
        seed: Which of the run's seeds; None for the best by validation accuracy.
        trust: The run's own network may be imported, whoever made the run.

    Raises:
        ValueError: As `hypergrad export`; for overrides that change what is learned.
        OSError: If the file cannot be written.
    """
    check_output(output)
    run = RunDirectory.open(path)
    begun = configs.load_run(run)
    from hypergrad.drivers.confirm import confirm, rival_of, stretched, with_confirmation
    from hypergrad.drivers.context import computing, prepare
    from hypergrad.drivers.export import exported
    from hypergrad.drivers.ground import check_settings
    from hypergrad.drivers.own_network import check_trusted
    from hypergrad.drivers.recorded import check_data_there

    check_settings(run, begun)
    schedule = exported(run, seed)
    epochs = stretched(begun.epochs, horizon)
    typed = [*check_overrides_recorded(run.overrides()), *overrides, f"epochs={epochs}"]
    config, _ = configs.compose(begun.experiment, typed)
    if config.optimizer != begun.optimizer:
        raise ConfigError("optimizer: the schedule was learned for another one")
    typed_here = any(text.startswith(("model=", "model.name=")) for text in overrides)
    check_trusted(run, config, sessions(run), trust=trust or typed_here)
    if config.data.root == begun.data.root and not any(t.startswith("data") for t in overrides):
        check_data_there(config)
    assert schedule.origin is not None
    own = schedule.origin.seed if schedule.origin.seed is not None else begun.seed
    context = prepare(config)
    with computing(context.config):
        seen = confirm(
            context,
            schedule,
            rival_of(run, config, own),
            trainings=trainings,
            seed=own,
            note=lambda text: print(text, file=sys.stderr),
        )
    print(seen)
    if seen.dead:
        print(f"{seen.dead} of {trainings} trainings with it end at chance: it does not hold here")
    if output is not None:
        with_confirmation(schedule, seen).save(output)
        print(output)
