"""What `auto` stands for in a run: its mode, by predicted cost; its threads, by trying.

Both are decided once, when the run begins, and written into its configuration, so that a resumed
run repeats them.
"""

import sys
from dataclasses import replace

import torch

from hypergrad.config.composition import with_settings
from hypergrad.drivers.context import RunContext, make_model
from hypergrad.drivers.probe import training_step
from hypergrad.drivers.threads import fastest_threads, worker_threads
from hypergrad.runs.directory import RunDirectory

__all__ = ["settle"]


def settle(context: RunContext, run: RunDirectory) -> RunContext:
    """Return the context with threads in place of `auto`; say and record what was settled.

    Args:
        context: What is going to run, its mode settled.
        run: Its directory, with the configuration written.
    """
    config, remarks = context.config, list(context.remarks)
    if config.threads == "auto" and context.device.type == "cpu":
        threads, why = _threads(context)
        if threads is not None:
            config = replace(config, threads=str(threads))
            remarks.append(f"threads={threads}: {why}")
    if not remarks:
        return context
    settings = {"threads": config.threads, "method.mode": config.method.mode}
    run.write_config(with_settings(run.config_text(), settings), run.overrides())
    run.update_summary({"settled": remarks})
    for remark in remarks:
        if torch.get_num_threads() > 1 or not remark.startswith("threads"):
            print(remark, file=sys.stderr)
    return context._replace(config=config, remarks=tuple(remarks))


def _threads(context: RunContext) -> tuple[int | None, str]:
    config, most = context.config, torch.get_num_threads()
    if config.executor != "local" or config.jobs > 1:
        return worker_threads(config), f"the cores' share of each of {config.jobs} processes"
    if most == 1:
        return 1, "it has no more"
    model = make_model(config, context.data, config.seed)
    return fastest_threads(training_step(config, context.data, model), most)
