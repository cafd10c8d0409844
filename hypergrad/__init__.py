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
    from hypergrad.api import best, learn_schedule, load_schedule
    from hypergrad.core.functional_model import FlatModel
    from hypergrad.core.schedule import Schedule
    from hypergrad.differentiation.diagnostics import HypergradientDiagnostics
    from hypergrad.differentiation.forward import hypergradients
    from hypergrad.differentiation.options import ForwardOptions
    from hypergrad.differentiation.result import Hypergradients
    from hypergrad.differentiation.reverse import ReverseOptions
    from hypergrad.parallel.ranks import Ranks, join_ranks
    from hypergrad.training.outer_loop import OuterStep

__all__ = [
    "FlatModel",
    "ForwardOptions",
    "Hypergradients",
    "OuterStep",
    "Ranks",
    "ReverseOptions",
    "Schedule",
    "HypergradientDiagnostics",
    "best",
    "hypergradients",
    "join_ranks",
    "learn_schedule",
    "load_schedule",
]

_HOMES = {
    "FlatModel": "core.functional_model",
    "ForwardOptions": "differentiation.options",
    "HypergradientDiagnostics": "differentiation.diagnostics",
    "Hypergradients": "differentiation.result",
    "OuterStep": "training.outer_loop",
    "Ranks": "parallel.ranks",
    "ReverseOptions": "differentiation.reverse",
    "Schedule": "core.schedule",
    "best": "api",
    "hypergradients": "differentiation.forward",
    "join_ranks": "parallel.ranks",
    "learn_schedule": "api",
    "load_schedule": "api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'hypergrad' has no attribute {name!r}")
    return getattr(import_module(f"hypergrad.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
