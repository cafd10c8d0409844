"""Learn training schedules by hypergradients through the whole training run.

The library in three lines; names are imported when they are first used, so that the command line
need not wait for PyTorch:

    history = hypergrad.learn_schedule(module, images, labels, epochs=10)
    schedule = hypergrad.best(history).schedule
    schedule.apply(optimizer, step, horizon)  # before every optimizer.step() of torch.optim.SGD
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypergrad.api import OuterStep, best, learn_schedule
    from hypergrad.flat import FlatModel
    from hypergrad.forward import hypergradients
    from hypergrad.forward_options import ForwardOptions
    from hypergrad.hypergradient import Hypergradients, Trust
    from hypergrad.ranks import Ranks, join_ranks
    from hypergrad.reverse import ReverseOptions
    from hypergrad.schedule import Schedule

__all__ = [
    "FlatModel",
    "ForwardOptions",
    "Hypergradients",
    "OuterStep",
    "Ranks",
    "ReverseOptions",
    "Schedule",
    "Trust",
    "best",
    "hypergradients",
    "join_ranks",
    "learn_schedule",
]

_HOMES = {
    "FlatModel": "flat",
    "ForwardOptions": "forward_options",
    "Hypergradients": "hypergradient",
    "OuterStep": "api",
    "Ranks": "ranks",
    "ReverseOptions": "reverse",
    "Schedule": "schedule",
    "Trust": "hypergradient",
    "best": "api",
    "hypergradients": "forward",
    "join_ranks": "ranks",
    "learn_schedule": "api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'hypergrad' has no attribute {name!r}")
    return getattr(import_module(f"hypergrad.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
