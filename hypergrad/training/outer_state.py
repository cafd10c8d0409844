"""What an outer loop leaves behind as JSON keeps it: exact, and read back by the same names."""

from collections.abc import Mapping
from dataclasses import asdict

from hypergrad.core.basis import Windows, described
from hypergrad.core.budget import Spent
from hypergrad.core.outer_optimizer import OuterState
from hypergrad.core.schedule import Schedule, schedule_in
from hypergrad.core.schedule_file import Origin, learned_for_as_dict
from hypergrad.differentiation.diagnostics import HypergradientDiagnostics
from hypergrad.training.outer_loop import Best, Evaluation, OuterProgress, OuterStep

__all__ = [
    "best_as_dict",
    "progress_as_dict",
    "progress_from",
    "schedule_as_dict",
    "step_as_dict",
    "step_from",
]

PLAIN = (
    "validation_loss",
    "validation_accuracy",
    "gradients",
    "products",
    "number",
    "epochs",
    "horizon",
    "diverged_step",
    "doubts",
    "ended",
)


def schedule_as_dict(schedule: Schedule) -> dict:
    """Return a schedule as `schedule.json` holds it; `schedule_in` reads it."""
    bases = {
        name: described(basis)
        for name, basis in schedule.bases.items()
        if not isinstance(basis, Windows)
    }
    learned_for = schedule.learned_for
    return {
        **schedule.as_dict(),
        **({"bases": bases} if bases else {}),
        **({} if learned_for is None else {"learned_for": learned_for_as_dict(learned_for)}),
    }


def best_as_dict(best: Best) -> dict:
    """Return the best outer step as `schedule.json` holds it, without the seed."""
    return {
        "outer_step": best.number,
        "validation_accuracy": best.evaluation.validation_accuracy,
        "validation_loss": best.evaluation.validation_loss,
        "test_accuracy": best.evaluation.test_accuracy,
        **schedule_as_dict(best.schedule),
    }


def _best_from(kept: Mapping) -> Best:
    evaluation = Evaluation(
        kept["validation_loss"],
        kept["validation_accuracy"],
        test_accuracy=kept["test_accuracy"],
    )
    return Best(kept["outer_step"], schedule_in(kept), evaluation)


def progress_as_dict(progress: OuterProgress) -> dict:
    """Return where an outer loop is; `progress_from` reads it."""
    state, best = progress.state, progress.best
    return {
        "number": progress.number,
        "state": None if state is None else state._asdict(),
        "best": None if best is None else best_as_dict(best),
        "spent": progress.spent._asdict(),
    }


def progress_from(kept: Mapping) -> OuterProgress:
    """Return the progress that `progress_as_dict` gave, read back from JSON."""
    state = None if kept["state"] is None else _state_from(kept["state"])
    best = kept["best"] and _best_from(kept["best"])
    return OuterProgress(kept["number"], state, best, Spent(**kept["spent"]))


def _state_from(kept: Mapping) -> OuterState:
    averaged = kept.get("averaged", 0)  # which searches of earlier versions have not
    lists = {name: tuple(own) for name, own in kept.items() if name != "averaged"}
    return OuterState(**lists, averaged=averaged)


def step_as_dict(step: OuterStep) -> dict:
    """Return an outer step; `step_from` reads it."""
    origin = step.schedule.origin
    return {
        **{name: getattr(step, name) for name in PLAIN},
        "schedule": schedule_as_dict(step.schedule),
        "origin": None if origin is None else asdict(origin),
        "hypergradients": list(step.hypergradients),
        "diagnostics": [each._asdict() for each in step.diagnostics],
        "contributing": list(step.contributing),
        "complaints": list(step.complaints),
        "after": progress_as_dict(step.after),
    }


def step_from(kept: Mapping) -> OuterStep:
    """Return the outer step that `step_as_dict` gave, read back from JSON."""
    schedule, origin = schedule_in(kept["schedule"]), kept["origin"]
    if origin is not None:
        lists = {name: tuple(own) for name, own in origin.items() if isinstance(own, list)}
        origin = Origin(**{**origin, **lists})
    return OuterStep(
        schedule=Schedule(schedule, schedule.bases, schedule.learned_for, origin),
        hypergradients=tuple(kept["hypergradients"]),
        diagnostics=tuple(HypergradientDiagnostics(**each) for each in kept["diagnostics"]),
        contributing=tuple(kept["contributing"]),
        complaints=tuple(kept["complaints"]),
        after=progress_from(kept["after"]),
        **{name: kept[name] for name in PLAIN},
    )
