"""What a run came to: the closing table and the headline, from its results."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hypergrad.config.search_schema import BaselineConfig

__all__ = ["DIVERGED", "MethodSummary", "all_diverged", "headline", "how_set", "summarise"]

TITLES = {
    "ours_retrained": "learned schedule (ours)",
    "ours": "  its outer step, before retraining",
    "hd": "hypergradient descent, online",
    "hd_retrained": "hypergradient descent, its schedule retrained",
    "sgd": "plain SGD, a common setting",
    "start": "starting values",
}


DIVERGED = "every training with what was learned diverged"
_COMPARISONS = ("ours", "sgd", "start")


class MethodSummary(NamedTuple):
    """One method over the seeds of a run.

    Attributes:
        method: As in `summary.json`.
        title: For people.
        accuracies: Test accuracy of each seed, in [0, 1].
        diverged: How many seeds diverged.
    """

    method: str
    title: str
    accuracies: tuple[float, ...]
    diverged: int

    @property
    def mean(self) -> float:
        """Mean test accuracy; a diverged seed counts as chance."""
        return statistics.fmean(self.accuracies)

    @property
    def text(self) -> str:
        """Mean and sample standard deviation in percent."""
        if len(self.accuracies) == 1:
            return f"{100 * self.mean:.2f} %"
        return f"{100 * self.mean:.2f} ± {100 * statistics.stdev(self.accuracies):.2f} %"


def summarise(results: Sequence[Mapping]) -> list[MethodSummary]:
    """Gather results, as in `summary.json`, by method, in the order of the table."""
    found = []
    for method, title in TITLES.items():
        rows = [r for r in results if r["method"] == method and r["test_accuracy"] is not None]
        if rows:
            accuracies = tuple(row["test_accuracy"] for row in rows)
            found.append(MethodSummary(method, title, accuracies, sum(r["diverged"] for r in rows)))
    return found


def how_set(baseline: BaselineConfig) -> str:
    """Return how plain SGD was set, in a line: by hand, and not tuned on this data."""
    rate = f"rate {baseline.learning_rate:g}"
    if baseline.schedule == "multistep" and baseline.milestones:
        at = ", ".join(f"{100 * each:g}" for each in baseline.milestones)
        rate += f", times {baseline.factor:g} after {at} % of the run"
    elif baseline.schedule == "cosine":
        rate += " annealed to zero by a cosine"
    return (
        f"plain SGD: {rate}; momentum {baseline.momentum:g}, weight decay "
        f"{baseline.weight_decay:g}; set by hand, not tuned here"
    )


def all_diverged(results: Sequence[Mapping]) -> bool:
    """Whether all final trainings with what a run learned or chose diverged.

    >>> all_diverged([{"method": "ours_retrained", "test_accuracy": 0.1, "diverged": True}])
    True
    """
    learned = [each for each in results if each.get("method") == "ours_retrained"]
    learned = learned or [each for each in results if each.get("method") not in _COMPARISONS]
    return bool(learned) and all(each.get("diverged") is True for each in learned)


def headline(results: Sequence[Mapping]) -> str:
    """Return the result in one line; HD counts by the better of its two figures.

    >>> headline([{"method": "sgd", "test_accuracy": 0.5, "diverged": False}])
    'SGD 50.00 % (test accuracy, 1 seed)'
    """
    by_method = {summary.method: summary for summary in summarise(results)}
    texts = []
    if "ours_retrained" in by_method:
        texts.append(f"ours {by_method['ours_retrained'].text}")
    rivals = [by_method[name] for name in ("hd", "hd_retrained") if name in by_method]
    if rivals:
        texts.append(f"HD {max(rivals, key=lambda rival: rival.mean).text}")
    if "sgd" in by_method:
        texts.append(f"SGD {by_method['sgd'].text}")
    if "start" in by_method:
        texts.append(f"starting values {by_method['start'].text}")
    if not texts:
        return ""
    if all_diverged(results):
        texts[0] = f"{DIVERGED}: {texts[0]}"
    seeds = max(len(summary.accuracies) for summary in by_method.values())
    return f"{' | '.join(texts)} (test accuracy, {seeds} seed{'s' if seeds > 1 else ''})"
