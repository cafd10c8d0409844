"""Central differences of a scalar function, and what they can say of a claimed derivative.

    D(h) = (f(x + h) - f(x - h)) / 2 h          f'(x) = (4 D(h/2) - D(h)) / 3 + O(h^4)

Between the two steps `h` and `h/2`, what is not linear shows, and so does a jump: a kink (a ReLU
that switches) makes the result of a training jump, and a jump weighs `1 / h`. So the difference of
the two bounds the error, beside rounding, which weighs `1 / h` too. Where one pair of steps cannot
tell, others a hundred times smaller and larger are tried. A wrong derivative is off by the same at
each of them.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["AGREE", "DISAGREE", "TOLERANCE", "UNKNOWN", "Judgement", "judge"]

AGREE, DISAGREE, UNKNOWN = "agree", "DO NOT AGREE", "cannot be told"
TOLERANCE = 1e-4  # relative; a wrong term that matters shows at 1e-3 and more
STEPS = (1e-4, 1e-6, 1e-2, 1e-1)  # relative to x, in the order in which they are tried
NOISE = 2.2e-16  # relative error of a result in float64, at least
CERTAIN = 10.0  # times the uncertainty: then it is no rounding and no kink


class Judgement(NamedTuple):
    """What differences say of a derivative.

    Attributes:
        slope: The best estimate, NaN if there is none.
        verdict: `AGREE`, `DISAGREE` or `UNKNOWN`.
        reason: Why it is unknown, or empty.
    """

    slope: float
    verdict: str
    reason: str = ""


class _Estimate(NamedTuple):
    slope: float
    error: float
    rounding: float


def judge(f: Callable[[float], float], x: float, claimed: float) -> Judgement:
    """Judge a claimed derivative by four to sixteen evaluations.

    Args:
        f: The function, in float64.
        x: Where; not zero, as steps are relative to it. Inside (0, 1), they keep to it.
        claimed: The derivative at `x`.
    """
    scale = min(x, 1 - x) if 0 < x < 1 else abs(x)
    found: list[_Estimate] = []
    for relative in STEPS:
        now = _estimate(f, x, relative * scale)
        if not math.isfinite(now.slope):
            continue
        found.append(now)
        if _confirms(now, claimed):
            return Judgement(now.slope, AGREE)
        others = [each for each in found[:-1] if _same_offence(each, now, claimed)]
        if others:
            return Judgement(min(others[0], now, key=lambda e: e.error).slope, DISAGREE)
    if not found or not math.isfinite(claimed):
        return Judgement(math.nan, UNKNOWN, "not finite")
    best = min(found, key=lambda each: each.error)
    return Judgement(best.slope, UNKNOWN, "rounding" if best.error < 2 * best.rounding else "kinks")


def _estimate(f: Callable[[float], float], x: float, h: float) -> _Estimate:
    ends = [f(x + h), f(x - h), f(x + h / 2), f(x - h / 2)]
    wide, narrow = (ends[0] - ends[1]) / (2 * h), (ends[2] - ends[3]) / h
    rounding = 4 * NOISE * max(map(abs, ends)) / h
    return _Estimate((4 * narrow - wide) / 3, abs(wide - narrow) + rounding, rounding)


def _confirms(found: _Estimate, claimed: float) -> bool:
    if claimed == 0 and abs(found.slope) <= found.rounding:
        return True  # a value that does nothing
    allowed = TOLERANCE * max(abs(found.slope), abs(claimed))
    return found.error <= allowed and abs(found.slope - claimed) <= allowed


def _same_offence(one: _Estimate, other: _Estimate, claimed: float) -> bool:
    """Whether two estimates are sure that a claim is wrong, and by how much."""
    offence = abs(other.slope - claimed)
    return CERTAIN * max(one.error, other.error, abs(one.slope - other.slope)) <= offence
