"""Where a run is and what it has found so far: what a checkpoint keeps of it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace

from hypergrad.core.basis import described, span
from hypergrad.core.dead_network import is_dead
from hypergrad.core.outer_optimizer import sign_of
from hypergrad.core.schedule import Schedule
from hypergrad.differentiation.diagnostics import HypergradientDiagnostics
from hypergrad.training.outer_loop import Evaluation, OuterProgress, OuterStep
from hypergrad.training.outer_state import best_as_dict, progress_as_dict, progress_from
from hypergrad.training.trajectories import stands_still

__all__ = ["Progress", "outer_rows"]


@dataclass
class Progress:
    """Where a run is, between inner steps.

    Attributes:
        seed_index: Which repeat.
        method: Which of its inner runs, as in `inner.csv`.
        outer: Where the outer loop of this seed is.
        hd_schedule: What hypergradient descent went through for this seed.
        schedules: Best schedule of each finished seed, as in `schedule.json`.
        results: As in `summary.json`.
        spent: What each seed's outer loop has cost, as in `summary.json`.
        inner: Scalars of the inner run under way, or None between inner runs.
        seconds: Wall time of that inner run so far.
        seen: Its last evaluation.
        strategy: How Hessian products are computed and why, where that was chosen by a trial.
        candidates: Outer steps of this seed, as in `schedule.json`, where some are confirmed.
        confirmed: Validation losses of the confirmations so far; None for one that diverged.
    """

    seed_index: int = 0
    method: str = "ours"
    outer: OuterProgress = OuterProgress()
    hd_schedule: Schedule | None = None
    schedules: list[dict] = field(default_factory=list)
    results: list[dict] = field(default_factory=list)
    spent: list[dict] = field(default_factory=list)
    inner: dict | None = None
    seconds: float = 0.0
    seen: Evaluation | None = None
    strategy: dict | None = None
    candidates: list[dict] = field(default_factory=list)
    confirmed: list[float | None] = field(default_factory=list)

    @property
    def outer_step(self) -> int:
        """The outer step under way, or the confirmation; 0 for all others."""
        if self.method == "confirm":
            return len(self.confirmed)
        return self.outer.number if self.method == "ours" else 0

    def as_dict(self) -> dict:
        """Return it as JSON keeps it, less the schedule of hypergradient descent."""
        return {
            **asdict(replace(self, hd_schedule=None)),
            "outer": progress_as_dict(self.outer),
        }

    @classmethod
    def from_dict(cls, kept: Mapping) -> "Progress":
        """Return the progress that `as_dict` gave, read back from JSON."""
        seen = kept["seen"]
        found = {"outer": progress_from(kept["outer"]), "seen": seen and Evaluation(*seen)}
        return cls(**{**kept, **found})

    def keep(self, step: OuterStep, seed: int) -> None:
        """Note that an outer step was taken, and what its seed has cost so far."""
        self.outer = step.after
        spent = {"seed": seed, **step.after.spent._asdict()}
        self.spent = [entry for entry in self.spent if entry["seed"] != seed] + [spent]

    def finish_outer(self, seed: int, best: dict | None = None) -> None:
        """Note an outer step as this seed's schedule, and what it came to.

        Args:
            seed: Of the repeat.
            best: As in `schedule.json`; the best by validation unless given.
        """
        assert self.outer.best is not None, "outer step 0 has all values zero and cannot diverge"
        best = best or best_as_dict(self.outer.best)
        self.candidates, self.confirmed = [], []
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

    def add_result(self, seed: int, seen: Evaluation | None, guess: float, images: int) -> None:
        """Note where the method under way ended.

        Args:
            seed: Of the repeat.
            seen: Its last evaluation; None if its weights did not stay finite.
            guess: Accuracy of always naming the commonest class of the test set: what a method
                that did not stay finite counts as.
            images: In the test set. A method whose network is dead after them has diverged.
        """
        accuracy = guess if seen is None else seen.test_accuracy
        learned = self.method == "ours_retrained"
        self.results.append(
            {
                "seed": seed,
                "method": self.method,
                "test_accuracy": accuracy,
                "validation_accuracy": None if seen is None else seen.validation_accuracy,
                "diverged": seen is None
                or (accuracy is not None and is_dead(accuracy, guess, images)),
                "outer_step": self.schedules[-1]["outer_step"] if learned else None,
            }
        )


def outer_rows(step: OuterStep, seed: int) -> Iterator[dict[str, int | float | str | None]]:
    """Yield the rows of `outer.csv` of one outer step, one a value.

    Args:
        step: The outer step.
        seed: Of the repeat.
    """
    schedule, epochs, horizon, state = step.schedule, step.epochs, step.horizon, step.after.state
    assert state is not None
    spans = [
        (window.start / horizon * epochs, window.stop / horizon * epochs)
        for basis in schedule.bases.values()
        for function in range(basis.count)
        for window in [span(basis, function, horizon)] * basis.size
    ]
    unknown = dict.fromkeys(HypergradientDiagnostics._fields)
    diagnostics = [seen._asdict() for seen in step.diagnostics] or [unknown] * len(spans)
    still = stands_still(step.diagnostics) or (False,) * len(spans)
    for (kind, index, value), (begin, end), h, gamma, steps, stays, seen in zip(
        schedule.columns(),
        spans,
        step.hypergradients,
        state.step_sizes,
        step.contributing,
        still,
        diagnostics,
        strict=True,
    ):
        yield {
            "seed": seed,
            "outer_step": step.number,
            "kind": kind,
            "index": index,
            "start_epoch": begin,
            "end_epoch": end,
            "value": value,
            "hypergradient": h,
            "step_size": gamma,
            "sign": 0 if stays else sign_of(h),
            "contributing_steps": steps,
            **seen,
            "basis": str(described(schedule.bases[kind])["kind"]),
        }
