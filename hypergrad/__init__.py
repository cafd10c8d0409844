"""Learn training schedules by hypergradients through the whole training run.

The library in three lines; names are imported when they are first used, so that the command line
need not wait for PyTorch:

    history = hypergrad.learn_schedule(module, images, labels, epochs=10)
    schedule = hypergrad.best(history).schedule
    optimizer = schedule.optimizer(module)  # and schedule.scheduler(optimizer, total_steps)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypergrad.api.improve import Improvement, ImproveOptions, improve
    from hypergrad.api.learning import learn, learn_schedule, load_schedule
    from hypergrad.api.search import Search, best
    from hypergrad.api.search_log import SearchLog
    from hypergrad.core.basis import Cosine, Hats, Linear, Vector, WarmUp, Windows
    from hypergrad.core.functional_model import FlatModel
    from hypergrad.core.gradient_transforms import ElementwiseClip, NormClip
    from hypergrad.core.hyperparameters import Hyperparameter
    from hypergrad.core.inner_optimizer import InnerOptimizer
    from hypergrad.core.objective import Objective, accuracy, supervised
    from hypergrad.core.rules import Rule, adam, adamw, rmsprop, sgd
    from hypergrad.core.rules.move_sets import movable
    from hypergrad.core.rules.sgd_schedules import paper_optimizer, sgd_schedule
    from hypergrad.core.schedule import Schedule
    from hypergrad.differentiation.diagnostics import HypergradientDiagnostics
    from hypergrad.differentiation.forward import hypergradients
    from hypergrad.differentiation.options import ForwardOptions
    from hypergrad.differentiation.result import Hypergradients
    from hypergrad.differentiation.reverse import ReverseOptions
    from hypergrad.drivers.run_folder import RunFolder
    from hypergrad.training.outer_loop import OuterStep

__all__ = [
    "accuracy",
    "adam",
    "adamw",
    "best",
    "Cosine",
    "ElementwiseClip",
    "FlatModel",
    "ForwardOptions",
    "Hats",
    "HypergradientDiagnostics",
    "Hypergradients",
    "hypergradients",
    "Hyperparameter",
    "improve",
    "Improvement",
    "ImproveOptions",
    "InnerOptimizer",
    "learn",
    "learn_schedule",
    "Linear",
    "load_schedule",
    "movable",
    "NormClip",
    "Objective",
    "OuterStep",
    "paper_optimizer",
    "ReverseOptions",
    "rmsprop",
    "Rule",
    "RunFolder",
    "Schedule",
    "Search",
    "SearchLog",
    "sgd",
    "sgd_schedule",
    "supervised",
    "Vector",
    "WarmUp",
    "Windows",
]

_HOMES = {
    "accuracy": "core.objective",
    "adam": "core.rules",
    "adamw": "core.rules",
    "best": "api.search",
    "Cosine": "core.basis",
    "ElementwiseClip": "core.gradient_transforms",
    "FlatModel": "core.functional_model",
    "ForwardOptions": "differentiation.options",
    "Hats": "core.basis",
    "HypergradientDiagnostics": "differentiation.diagnostics",
    "Hypergradients": "differentiation.result",
    "hypergradients": "differentiation.forward",
    "Hyperparameter": "core.hyperparameters",
    "improve": "api.improve",
    "Improvement": "api.improve",
    "ImproveOptions": "api.improve",
    "InnerOptimizer": "core.inner_optimizer",
    "learn": "api.learning",
    "learn_schedule": "api.learning",
    "Linear": "core.basis",
    "load_schedule": "api.learning",
    "movable": "core.rules.move_sets",
    "NormClip": "core.gradient_transforms",
    "Objective": "core.objective",
    "OuterStep": "training.outer_loop",
    "paper_optimizer": "core.rules.sgd_schedules",
    "ReverseOptions": "differentiation.reverse",
    "rmsprop": "core.rules",
    "Rule": "core.rules",
    "RunFolder": "drivers.run_folder",
    "Schedule": "core.schedule",
    "Search": "api.search",
    "SearchLog": "api.search_log",
    "sgd": "core.rules",
    "sgd_schedule": "core.rules.sgd_schedules",
    "supervised": "core.objective",
    "Vector": "core.basis",
    "WarmUp": "core.basis",
    "Windows": "core.basis",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from hypergrad.version import __version__

        return __version__
    if name not in _HOMES:
        raise AttributeError(f"module 'hypergrad' has no attribute {name!r}")
    return getattr(import_module(f"hypergrad.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
