"""A new run that goes on from the checkpoint of another, with other settings."""

import sys
from collections.abc import Sequence

from hypergrad.config.checks import ConfigError
from hypergrad.config.schema import RunConfig
from hypergrad.drivers.context import RunContext, prepare
from hypergrad.drivers.execute import new_run
from hypergrad.drivers.ground import ground_of, take_up
from hypergrad.drivers.inner_optimizer import logged_names
from hypergrad.drivers.settle import settle
from hypergrad.runs.atomic import write_bytes_atomically
from hypergrad.runs.checkpoint import CheckpointStore
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.ground import kept_ground
from hypergrad.runs.run_log import CSV, GROUND, RunLog

__all__ = ["fork"]


def fork(
    run: RunDirectory, config: RunConfig, text: str, overrides: Sequence[str]
) -> tuple[RunContext, RunDirectory]:
    """Make a run that is where another one's newest checkpoint is; the other stays as it was.

    Args:
        run: The other.
        config: What the new one goes on with.
        text: The same as YAML.
        overrides: What would have to be typed for it.

    Returns:
        What to run, and its directory; the run resumes there.

    Raises:
        ValueError: If there is nothing to go on from, or other hyperparameters are learned.
    """
    if config.driver != "learn" or config.is_multirun:
        raise ConfigError(f"{run.path}: only a run that learns has a checkpoint; start a new run")
    then, names = kept_ground(run), logged_names(config)
    log = RunLog(run, names, None if then is None else then.digests)
    checkpoint, remarks = log.look()
    if checkpoint is None:
        raise ConfigError(f"{run.path} has no checkpoint yet: start a new run")
    context = prepare(config)
    new = new_run(context.config, text, overrides)
    context = settle(context, new)
    ground = ground_of(context)
    with new.hold():
        for name, (position, _) in checkpoint.state[CSV].items():
            rows = (run.path / f"{name}.csv").read_bytes()[:position]
            write_bytes_atomically(new.path / f"{name}.csv", rows)
        state = {**checkpoint.state, GROUND: ground.digests}
        CheckpointStore(new.path / "checkpoints").save(checkpoint.tensors, state)
        take_up(new, ground)
        new.update_summary({"forked_from": str(run.path)})
    for remark in remarks:
        print(remark, file=sys.stderr)
    return context, new
