"""Bases: how few coefficients give the value of a hyperparameter at every inner step.

    value_t = sum_i B_ti lambda_i

`lambda_i` are what is learned, `t` a 0-based inner step of `T` (the horizon). Every basis is
linear, so the hypergradient of `lambda_i` is `sum_t B_ti` times that of the value at step `t`, and
every one stretches to any horizon.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = [
    "Basis",
    "Cosine",
    "Hats",
    "Linear",
    "Vector",
    "WarmUp",
    "basis_from",
    "described",
    "is_truncated",
    "per_step",
    "Window",
    "Windows",
    "contributing_steps",
    "span",
    "truncated_steps",
    "windows",
]

Weights = tuple[tuple[int, float], ...]


class Window(NamedTuple):
    """Inner steps `start <= t < stop`."""

    start: int
    stop: int


class Basis(Protocol):
    """What all bases have in common.

    Attributes:
        count: Functions of the basis.
        size: Entries of the value at one step; 1 unless it is a vector.
    """

    @property
    def count(self) -> int:
        """Functions of the basis."""
        ...

    @property
    def size(self) -> int:
        """Entries of the value at one step; coefficient `i size + j` is that of entry `j`."""
        ...

    def weights(self, step: int, horizon: int) -> Weights:
        """Return (`i`, `B_ti`) for every function that is not zero at 0-based step `step`."""
        ...


class _OfNumbers:
    """A basis whose value at a step is one number."""

    @property
    def size(self) -> int:
        return 1


@dataclass(frozen=True)
class Windows(_OfNumbers):
    """Indicators of contiguous windows: step `t` uses coefficient `floor(N t / T)` alone.

    Args:
        count: `N`.
    """

    count: int

    def weights(self, step: int, horizon: int) -> Weights:
        """Return the window of a step, with weight 1."""
        return ((self.count * step // horizon, 1.0),)

    def window(self, index: int, horizon: int) -> Window:
        """Return the steps of one window."""
        return Window(-(-index * horizon // self.count), -(-(index + 1) * horizon // self.count))


@dataclass(frozen=True)
class Hats(_OfNumbers):
    """Piecewise-linear interpolation between `N` knots, the first step and the last among them.

    Args:
        count: `N`; knot `i` is at step `i (T - 1) / (N - 1)`. One alone is a constant.
    """

    count: int

    def weights(self, step: int, horizon: int) -> Weights:
        """Return the two knots around a step, or the one that it falls on."""
        if self.count == 1 or horizon == 1:
            return ((0, 1.0),)
        place = step * (self.count - 1) / (horizon - 1)
        left = min(int(place), self.count - 1)
        share = place - left
        if share == 0:
            return ((left, 1.0),)
        return ((left, 1 - share), (left + 1, share))


@dataclass(frozen=True)
class Cosine(_OfNumbers):
    """The first `N` functions of the discrete cosine transform: `cos(pi i (t + 1/2) / T)`.

    Args:
        count: `N`; function 0 is the constant.
    """

    count: int

    def weights(self, step: int, horizon: int) -> Weights:
        """Return the value of every function at a step."""
        angle = math.pi * (step + 0.5) / horizon
        return tuple((i, math.cos(i * angle)) for i in range(self.count))


@dataclass(frozen=True)
class Linear(_OfNumbers):
    """Any linear basis.

    Args:
        function: Maps a 0-based step and the horizon to the `count` values `B_ti`.
        count: `N`.
    """

    function: Callable[[int, int], tuple[float, ...]]
    count: int

    def weights(self, step: int, horizon: int) -> Weights:
        """Return the functions that are not zero at a step.

        Raises:
            ValueError: If the function returns another number of values.
        """
        values = self.function(step, horizon)
        if len(values) != self.count:
            raise ValueError(f"the basis has {len(values)} values at a step: give {self.count}")
        return tuple((i, float(value)) for i, value in enumerate(values) if value != 0)


@dataclass(frozen=True)
class WarmUp:
    """Another basis behind a fixed linear warm-up.

    Args:
        share: Of the horizon that the warm-up takes, in [0, 1): `W = round(share T)` steps, of
            which step `t` has `(t + 1) / W` of the value.
        basis: What is warmed up to.

    Raises:
        ValueError: For another share.
    """

    share: float
    basis: Basis

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"a warm-up over {self.share} of the steps: use a share in [0, 1)")

    @property
    def count(self) -> int:
        """Functions of the basis."""
        return self.basis.count

    @property
    def size(self) -> int:
        """Entries of the value at one step."""
        return self.basis.size

    def weights(self, step: int, horizon: int) -> Weights:
        """Return the other basis's weights, scaled during the warm-up."""
        steps = round(self.share * horizon)
        weights = self.basis.weights(step, horizon)
        if step >= steps:
            return weights
        return tuple((i, weight * (step + 1) / steps) for i, weight in weights)


@dataclass(frozen=True)
class Vector:
    """A value with several entries, each over one and the same basis.

    Args:
        size: Entries, one a class or a training example, say.
        basis: Of every entry; constant unless given.

    Raises:
        ValueError: For fewer than two entries.
    """

    size: int
    basis: Basis = Windows(1)

    def __post_init__(self) -> None:
        if self.size < 2:
            raise ValueError(f"a vector of {self.size}: give at least 2, or its basis alone")

    @property
    def count(self) -> int:
        """Functions of the basis of one entry."""
        return self.basis.count

    def weights(self, step: int, horizon: int) -> Weights:
        """Return the weights of one entry's basis."""
        return self.basis.weights(step, horizon)


def per_step(basis: Basis, horizon: int) -> Basis:
    """Return the basis that gives every one of `horizon` steps a value of its own."""
    every = Windows(horizon)
    return Vector(basis.size, every) if basis.size > 1 else every


def windows(count: int, horizon: int) -> list[Window]:
    """Return the windows of `count` values over `horizon` inner steps.

    Args:
        count: `N`, at most `horizon`, so that no window is empty. 0 has no windows.
        horizon: `T`, inner steps.

    Returns:
        `count` windows, contiguous from 0 to `horizon`.

    Raises:
        ValueError: If a window would be empty.

    >>> windows(2, 5)
    [Window(start=0, stop=3), Window(start=3, stop=5)]
    """
    if not 0 <= count <= horizon:
        raise ValueError(
            f"{count} windows do not fit {horizon} inner steps: use at most {horizon} values"
        )
    basis = Windows(count)
    return [basis.window(index, horizon) for index in range(count)]


def span(basis: Basis, function: int, horizon: int) -> Window:
    """Return the steps from the first to the last at which a function of a basis is not zero.

    Args:
        basis: The basis.
        function: Which of its functions.
        horizon: `T`, inner steps.
    """
    if isinstance(basis, Windows):
        return basis.window(function, horizon)
    active = [t for t in range(horizon) if any(i == function for i, _ in basis.weights(t, horizon))]
    return Window(active[0], active[-1] + 1) if active else Window(0, 0)


def truncated_steps(window: Window, truncation: float) -> int:
    """Return how many steps at the start of a window truncation leaves out."""
    # The margin keeps 0.29 of 100 steps, 28.999999999999996 in floating point, at 29.
    return int(truncation * (window.stop - window.start) + 1e-9)


def is_truncated(basis: Basis, step: int, horizon: int, truncation: float) -> bool:
    """Return whether truncation leaves out a step, of windows only.

    Args:
        basis: The basis.
        step: 0-based inner step.
        horizon: `T`, inner steps.
        truncation: `tau` in [0, 1).
    """
    if not isinstance(basis, Windows) or truncation == 0:
        return False
    window = basis.window(basis.count * step // horizon, horizon)
    return step - window.start < truncated_steps(window, truncation)


def contributing_steps(basis: Basis, horizon: int, truncation: float = 0.0) -> tuple[float, ...]:
    """Return by what each coefficient's hypergradient is divided to be an average over steps.

    Args:
        basis: The basis.
        horizon: `T`, inner steps.
        truncation: `tau` in [0, 1), of windows only.

    Returns:
        One number a coefficient: of windows, the steps that contribute; in general
        `sum_t |B_ti|`.

    Raises:
        ValueError: If a function is zero at every step of this horizon, or for truncation of
            anything but windows.
    """
    if basis.count == 0:
        return ()
    if isinstance(basis, Windows):
        return tuple(
            window.stop - window.start - truncated_steps(window, truncation)
            for window in windows(basis.count, horizon)
        )
    if truncation:
        raise ValueError(
            f"truncation={truncation} leaves out the first steps of a window, and "
            f"{type(basis).__name__} has none: use truncation=0"
        )
    sums = [0.0] * basis.count
    for step in range(horizon):
        for i, weight in basis.weights(step, horizon):
            sums[i] += abs(weight)
    if min(sums) == 0:
        raise ValueError(
            f"{basis.count} functions do not fit {horizon} inner steps: one of them is zero "
            "throughout, use fewer"
        )
    return tuple(total for total in sums for _ in range(basis.size))


def described(basis: Basis) -> dict[str, object]:
    """Return what `basis_from` makes the basis from again, ready for JSON.

    Raises:
        ValueError: For a basis of the user's own, which is code.
    """
    match basis:
        case Windows(count) | Hats(count) | Cosine(count):
            return {"kind": type(basis).__name__.lower(), "count": count}
        case WarmUp(share, inner):
            return {"kind": "warmup", "share": share, "basis": described(inner)}
        case Vector(size, inner):
            return {"kind": "vector", "size": size, "basis": described(inner)}
    raise ValueError(f"{basis} cannot be written down: it is code")


def basis_from(kept: Mapping) -> Basis:
    """Return the basis that `described` was given.

    Raises:
        ValueError: For an unknown kind.
    """
    match kept["kind"]:
        case "windows":
            return Windows(kept["count"])
        case "hats":
            return Hats(kept["count"])
        case "cosine":
            return Cosine(kept["count"])
        case "warmup":
            return WarmUp(kept["share"], basis_from(kept["basis"]))
        case "vector":
            return Vector(kept["size"], basis_from(kept["basis"]))
    raise ValueError(f"no basis {kept['kind']!r}: use windows, hats, cosine, warmup or vector")
