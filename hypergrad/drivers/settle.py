"""What `auto` stands for in a run: its mode, by predicted cost; its threads, by trying.

Both are decided once, when the run begins, and written into its configuration, so that a resumed
run repeats them.
"""

import sys

import torch

from hypergrad.config.composition import with_settings
from hypergrad.drivers.context import RunContext, make_model
from hypergrad.drivers.threads import with_threads, worker_count
from hypergrad.runs.directory import RunDirectory

__all__ = ["settle"]


def settle(context: RunContext, run: RunDirectory) -> RunContext:
    """Return the context with threads in place of `auto`; say and record what was settled.

    Args:
        context: What is going to run, its mode settled, and its threads if that took a probe.
        run: Its directory, with the configuration written.
    """
    config, remarks = context.config, context.remarks
    if config.threads == "auto":
        model = make_model(config, context.data, config.seed)
        workers = worker_count(config, context.plan)
        config, said = with_threads(config, context.data, model, workers)
        remarks = (*remarks, *said)
    if not remarks:
        return context
    settings = {"threads": config.threads, "method.mode": config.method.mode}
    run.write_config(with_settings(run.config_text(), settings), run.overrides())
    run.update_summary({"settled": list(remarks)})
    for remark in remarks:
        if torch.get_num_threads() > 1 or not remark.startswith("threads"):
            print(remark, file=sys.stderr)
    return context._replace(config=config, remarks=remarks)
