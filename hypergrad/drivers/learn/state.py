"""Where a run is and what it has found so far: plain values that a checkpoint keeps as JSON."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hypergrad.core.budget import Spent
from hypergrad.core.outer_optimizer import OuterState, rank, sign_of
from hypergrad.core.schedule import Schedule, windows
from hypergrad.differentiation.diagnostics import HypergradientDiagnostics

__all__ = ["Evaluation", "Progress", "as_lists", "as_state", "outer_rows"]


class Evaluation(NamedTuple):
    """Losses and accuracies (in [0, 1]) at one moment; None for what was not looked at."""

    validation_loss: float | None
    validation_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None


@dataclass
class Progress:
    """Where a run is, between inner steps.

    Attributes:
        seed_index: Which repeat.
        method: Which part of it, as in `inner.csv`.
        outer_step: Of `ours`.
        outer: Values, step sizes and signs of the outer optimiser.
        best: The best outer step of this seed so far.
        schedules: Best schedule of each finished seed, as in `schedule.json`.
        results: As in `summary.json`.
        spent: What each seed's outer loop has cost, as in `summary.json`.
        inner: Scalars of the inner run under way, or None between inner runs.
        seconds: Wall time of that inner run so far.
        seen: Its last evaluation, as a list.
        curvature: How Hessian products are computed and why, where that was chosen by a trial.
    """

    seed_index: int = 0
    method: str = "ours"
    outer_step: int = 0
    outer: dict[str, list] = field(default_factory=dict)
    best: dict | None = None
    schedules: list[dict] = field(default_factory=list)
    results: list[dict] = field(default_factory=list)
    spent: list[dict] = field(default_factory=list)
    inner: dict | None = None
    seconds: float = 0.0
    seen: list[float | None] | None = None
    curvature: dict | None = None

    def keep_best(self, schedule: Schedule, seen: Evaluation) -> None:
        """Keep this outer step if its validation accuracy is the best; the loss decides a draw.

        Args:
            schedule: The values it used.
            seen: What it came to; one whose loss is not finite is never kept.
        """
        loss, accuracy = seen.validation_loss, seen.validation_accuracy
        assert loss is not None
        assert accuracy is not None
        key = rank(accuracy, loss)
        best = self.best
        if key == rank(0.0, math.inf) or (
            best is not None and rank(best["validation_accuracy"], best["validation_loss"]) >= key
        ):
            return
        self.best = {
            "outer_step": self.outer_step,
            "validation_accuracy": accuracy,
            "validation_loss": loss,
            "test_accuracy": seen.test_accuracy,
            **schedule.as_dict(),
        }

    def spend(self, seed: int, cost: Spent) -> Spent:
        """Note what an outer step has cost, and return what its seed has cost so far."""
        total = cost
        if self.spent and self.spent[-1]["seed"] == seed:
            total = self.spent_by(seed).plus(cost)
            self.spent.pop()
        self.spent.append({"seed": seed, **total._asdict()})
        return total

    def spent_by(self, seed: int) -> Spent:
        """Return what the outer loop of a seed has cost so far."""
        (entry,) = [entry for entry in self.spent if entry["seed"] == seed] or [{}]
        return Spent(**{name: entry[name] for name in Spent._fields if name in entry})

    def is_stale(self, patience: int | None) -> bool:
        """Whether the last `patience` outer steps brought nothing better; never without one."""
        if patience is None or self.best is None:
            return False
        return self.outer_step - 1 - self.best["outer_step"] >= patience

    def finish_outer(self, seed: int) -> None:
        """Note the best outer step as this seed's schedule, and what it came to."""
        best = self.best
        assert best is not None, "outer step 0 has all values zero and cannot diverge"
        self.schedules.append({"seed": seed, **best})
        self.results.append(
            {
                "seed": seed,
                "method": "ours",
                "test_accuracy": best["test_accuracy"],
                "validation_accuracy": best["validation_accuracy"],
                "diverged": False,
                "outer_step": best["outer_step"],
            }
        )

    def add_result(self, seed: int, seen: Evaluation | None, guess: float) -> None:
        """Note where the method under way ended.

        Args:
            seed: Of the repeat.
            seen: Its last evaluation; None if its weights did not stay finite.
            guess: Accuracy of always naming the commonest class. A method that does no better
                has diverged; one that did not stay finite counts as this.
        """
        accuracy = guess if seen is None else seen.test_accuracy
        learned = self.method == "ours_retrained"
        self.results.append(
            {
                "seed": seed,
                "method": self.method,
                "test_accuracy": accuracy,
                "validation_accuracy": None if seen is None else seen.validation_accuracy,
                "diverged": accuracy is not None and accuracy <= guess,
                "outer_step": self.schedules[-1]["outer_step"] if learned else None,
            }
        )


def outer_rows(
    schedule: Schedule,
    epochs: int,
    horizon: int,
    hypergradients: Sequence[float],
    step_sizes: Sequence[float],
    contributing: Sequence[int],
    diagnostics: Sequence[HypergradientDiagnostics | None],
) -> Iterator[dict[str, int | float | str | None]]:
    """Yield the rows of `outer.csv` of one outer step, without seed and outer step.

    Args:
        schedule: The values that it used.
        epochs: Horizon of its inner run.
        horizon: The same in inner steps.
        hypergradients: One a value.
        step_sizes: Step size of the move after it, one a value.
        contributing: Contributing steps, one a value.
        diagnostics: How far to trust each hypergradient; None where there is none.

    Yields:
        One row a value.
    """
    spans = [
        (window.start / horizon * epochs, window.stop / horizon * epochs)
        for count in schedule.counts
        for window in windows(count, horizon)
    ]
    for (kind, index, value), (begin, end), h, gamma, steps, seen in zip(
        schedule.columns(),
        spans,
        hypergradients,
        step_sizes,
        contributing,
        diagnostics,
        strict=True,
    ):
        yield {
            "kind": kind,
            "index": index,
            "start_epoch": begin,
            "end_epoch": end,
            "value": value,
            "hypergradient": h,
            "step_size": gamma,
            "sign": sign_of(h),
            "contributing_steps": steps,
            **(dict.fromkeys(HypergradientDiagnostics._fields) if seen is None else seen._asdict()),
        }


def as_lists(state: OuterState) -> dict[str, list]:
    """Return the outer state as JSON keeps it."""
    return {name: list(value) for name, value in state._asdict().items()}


def as_state(lists: Mapping[str, list]) -> OuterState:
    """Return the outer state that `as_lists` wrote."""
    return OuterState(**{name: tuple(value) for name, value in lists.items()})
