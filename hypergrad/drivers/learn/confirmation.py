"""Which outer step holds: the best few, trained again on seeds that none of them has seen."""

import math
import statistics
from collections.abc import Mapping, Sequence

from hypergrad.core.outer_optimizer import selection_key

__all__ = ["confirmed", "finalists"]


def finalists(candidates: Sequence[Mapping], count: int, by: str) -> list[dict]:
    """Return the best outer steps, the best first.

    Args:
        candidates: As in `schedule.json`, in order.
        count: How many at most; those whose loss is not finite are never among them.
        by: `accuracy` or `loss`.
    """

    def key(entry: Mapping) -> tuple[float, float]:
        return selection_key(entry["validation_accuracy"], entry["validation_loss"], by)

    finite = [entry for entry in candidates if math.isfinite(entry["validation_loss"])]
    return [dict(entry) for entry in sorted(finite, key=key, reverse=True)[:count]]


def confirmed(tried: Sequence[Mapping], losses: Sequence[float | None]) -> dict:
    """Return the finalist with the smallest mean loss, and a line of what was confirmed.

    Args:
        tried: The finalists.
        losses: Theirs, all of them once, then all of them again; None for a training that diverged,
            which is worse than any that did not.

    Returns:
        Its entry, with `confirmed`.
    """
    means = []
    for place in range(len(tried)):
        own = losses[place :: len(tried)]
        finite = [loss for loss in own if loss is not None]
        diverged = len(own) - len(finite)
        means.append((diverged, statistics.fmean(finite) if finite else math.inf))
    best = min(range(len(tried)), key=means.__getitem__)
    diverged, mean = means[best]
    count = len(losses) // len(tried)
    text = f"mean validation loss {mean:.4g} on {count} fresh trainings"
    if diverged:
        text += f", {diverged} of which diverged"
    if len(tried) > 1:
        text += f", which chose it among {len(tried)} outer steps"
    return {**tried[best], "confirmed": text}
