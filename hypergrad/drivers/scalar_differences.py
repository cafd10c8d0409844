"""Central differences of a scalar function, and what they can say of a claimed derivative.

    D(h) = (f(x + h) - f(x - h)) / 2 h          f'(x) = (4 D(h/2) - D(h)) / 3 + O(h^4)

Between the two steps `h` and `h/2`, what is not linear shows, and so does a jump: a kink (a ReLU
that switches) makes the result of a training jump, and a jump weighs `1 / h`. So the difference of
the two bounds the error, beside rounding, which weighs `1 / h` too. Where one pair of steps does
not confirm a claim, smaller and larger ones are tried. A wrong derivative is off by the same at
several of them.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

__all__ = ["AGREE", "DISAGREE", "TOLERANCE", "UNKNOWN", "Judgement", "judge"]

AGREE, DISAGREE, UNKNOWN = "agree", "DO NOT AGREE", "cannot be told"
TOLERANCE = 1e-4  # relative; a wrong term that matters shows at 1e-3 and more
STEPS = (1e-4, 1e-6, 1e-8, 1e-2, 1e-1)  # relative to x, in the order in which they are tried
NOISE = 2.2e-16  # relative error of a result in float64, at least
SMALL = 1e-4  # of those, small enough for kinks to be few
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
    relative: float
    slope: float
    error: float
    rounding: float

    @property
    def rounds(self) -> bool:
        """Whether nothing but rounding is seen to disturb it."""
        return self.error <= CERTAIN * self.rounding

    @property
    def is_sure(self) -> bool:
        """Whether it is a slope: where a function jumps at random, the steps say this and that."""
        return self.rounds or CERTAIN * self.error <= abs(self.slope)


def judge(f: Callable[[float], float], x: float, claimed: float) -> Judgement:
    """Judge a claimed derivative by four to twenty evaluations.

    Args:
        f: The function, in float64.
        x: Where; not zero, as steps are relative to it. Inside (0, 1), they keep to it.
        claimed: The derivative at `x`.
    """
    scale = min(x, 1 - x) if 0 < x < 1 else abs(x)
    found: list[_Estimate] = []
    for relative in STEPS:
        now = _estimate(f, x, relative, scale)
        if not math.isfinite(now.slope):
            continue
        if _confirms(now, claimed):
            return Judgement(now.slope, AGREE)
        found.append(now)
    if not found or not math.isfinite(claimed):
        return Judgement(math.nan, UNKNOWN, "not finite")
    best = min(found, key=lambda each: each.error)
    if _is_wrong(sorted(found), claimed):
        return Judgement(best.slope, DISAGREE)
    return Judgement(best.slope, UNKNOWN, "rounding" if best.rounds else "kinks")


def _estimate(f: Callable[[float], float], x: float, relative: float, scale: float) -> _Estimate:
    h = relative * scale
    ends = [f(x + h), f(x - h), f(x + h / 2), f(x - h / 2)]
    wide, narrow = (ends[0] - ends[1]) / (2 * h), (ends[2] - ends[3]) / h
    rounding = 4 * NOISE * max(map(abs, ends)) / h
    return _Estimate(relative, (4 * narrow - wide) / 3, abs(wide - narrow) + rounding, rounding)


def _confirms(found: _Estimate, claimed: float) -> bool:
    if claimed == 0 and abs(found.slope) <= found.rounding:
        return True  # a value that does nothing
    allowed = TOLERANCE * max(abs(found.slope), abs(claimed))
    return found.error <= allowed and abs(found.slope - claimed) <= allowed


def _is_wrong(found: list[_Estimate], claimed: float) -> bool:
    """Whether two estimates are sure that a claim is wrong, and no smaller step casts doubt.

    Over the larger steps a rough function has another slope than at the point: where the smaller
    ones see more than rounding, they are no evidence.
    """
    for place, (one, other) in enumerate(pairwise(found)):
        smaller = found[:place]
        if not all(each.is_sure if other.relative <= SMALL else each.rounds for each in smaller):
            return False
        apart, error = abs(one.slope - other.slope), max(one.error, other.error)
        alike = CERTAIN * apart <= min(abs(one.slope), abs(other.slope)) or apart <= error
        certain = CERTAIN * max(error, apart) <= abs(other.slope - claimed)
        if one.is_sure and other.is_sure and alike and certain:
            return True
    return False
