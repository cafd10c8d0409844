"""How the examples judge: both sides chosen on a few seeds, and judged on others."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from statistics import mean
from typing import TypeVar

from scipy import stats

from hypergrad import OuterStep, Schedule

__all__ = ["QUICK", "chosen", "compare", "tuned"]

QUICK = "--quick" in sys.argv  # far too little training to learn anything: only tries the script
CHOOSE = range(1 if QUICK else 3)
JUDGE = range(100, 103 if QUICK else 108)

Plan = TypeVar("Plan")  # what a training follows: a schedule, or the settings of a cosine
last = time.process_time()  # imports are not counted


def chosen(history: Sequence[OuterStep], score: Callable[[Schedule, int], float]) -> Schedule:
    """Return the schedule of one of the four best outer steps, and print it.

    An outer step has trained once, and the best of many may have been lucky: the four with the
    lowest validation loss are trained again, as the cosines are.

    Args:
        history: Of `learn`.
        score: Trains by a schedule with a seed, and validates; the higher the better.
    """
    losses = f"validation loss {history[0].validation_loss:.4g}"
    finite = [step for step in history if math.isfinite(step.validation_loss)]
    best = sorted(finite, key=lambda step: step.validation_loss)[:4]
    print(f"{len(history)} outer steps, {losses} -> {best[0].validation_loss:.4g}, {_seconds()}")
    found, validation = _best([step.schedule for step in best], score)
    print(f"learned (best of {len(best)}): validation {validation:.2f}, {_seconds()}")
    for name, values in found.items():
        many = f"{len(values)} values from {min(values):.3g} to {max(values):.3g}"
        print(f"    {name}: {many if len(values) > 8 else ' '.join(f'{v:.3g}' for v in values)}")
    return found


def tuned(plans: Sequence[Plan], score: Callable[[Plan, int], float]) -> Plan:
    """Return the settings of a cosine that are the best on the same seeds, and print them."""
    found, validation = _best(plans, score)
    print(f"cosine {found} (best of {len(plans)}): validation {validation:.2f}, {_seconds()}")
    return found


def compare(
    score: str, learned: Callable[[int], float], rival: Callable[[int], float], name: str = "cosine"
) -> None:
    """Print the mean paired difference on fresh seeds, with its 95 % t-interval, and a verdict.

    Args:
        score: Its name and unit; the higher the better.
        learned: Trains by the learned schedule with a seed, of weights and order; its score.
        rival: Likewise, by what it is compared with.
        name: Of the rival.
    """
    ours, theirs = [[train(seed) for seed in JUDGE] for train in (learned, rival)]
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    half = float(stats.t.ppf(0.975, len(gaps) - 1) * stats.sem(gaps))
    better, worse = mean(gaps) > half, mean(gaps) < -half
    verdict = "learned is better" if better else "learned is worse" if worse else "not told apart"
    print(
        f"{score}, {len(gaps)} fresh seeds: learned {mean(ours):.2f}, {name} {mean(theirs):.2f}, "
        f"difference {mean(gaps):+.2f} ± {half:.2f}: {verdict}, {_seconds()}"
    )


def _best(plans: Sequence[Plan], score: Callable[[Plan, int], float]) -> tuple[Plan, float]:
    scores = [mean(score(plan, seed) for seed in CHOOSE) for plan in plans]
    return plans[scores.index(max(scores))], max(scores)


def _seconds() -> str:
    """Processor time since this was last asked for, or since this module was imported."""
    global last
    before, last = last, time.process_time()
    return f"{last - before:.0f} s"
