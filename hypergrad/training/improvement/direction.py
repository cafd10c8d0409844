"""Which way to move, from the derivatives of several trajectories that differ in all but values."""

import math
from collections.abc import Sequence

__all__ = ["Memory"]

Vector = tuple[float, ...]


class Memory:
    """Gradients of the trajectories so far; older ones count for less.

    Args:
        decay: Weight of an iteration's trajectories in the next one.
        gate: |t| up to which a value stays where it is, and from which on it moves in full.
    """

    def __init__(self, decay: float = 0.5, gate: tuple[float, float] = (1.0, 2.5)) -> None:
        self._decay, self._gate = decay, gate
        self._seen: list[tuple[float, Vector]] = []

    def age(self) -> None:
        """Begin another iteration."""
        self._seen = [(weight * self._decay, own) for weight, own in self._seen]

    def add(self, gradient: Sequence[float]) -> None:
        """Note the gradient of a trajectory."""
        self._seen.append((1.0, tuple(gradient)))

    def __len__(self) -> int:
        return len(self._seen)

    def t_statistics(self) -> Vector:
        """Return the mean of each value's derivative over its standard error, across trajectories.

        Returns:
            0 for one that no trajectory depends on; infinite for one that all agree on exactly.
        """
        total = sum(weight for weight, _ in self._seen)
        effective = total**2 / sum(weight**2 for weight, _ in self._seen)
        found = []
        for column in zip(*(own for _, own in self._seen), strict=True):
            pairs = [(weight, own) for (weight, _), own in zip(self._seen, column, strict=True)]
            mean = sum(weight * own for weight, own in pairs) / total
            spread = sum(weight * (own - mean) ** 2 for weight, own in pairs) / total
            spread *= effective / max(effective - 1, 1.0)  # of a sample, not of all there are
            error = math.sqrt(spread / effective)
            found.append(mean / error if error else math.copysign(math.inf, mean) if mean else 0.0)
        return tuple(found)

    def descent(self) -> Vector:
        """Return the direction, every entry in [-1, 1]: full where the trajectories agree."""
        low, high = self._gate
        return tuple(
            -math.copysign(min(max((abs(t) - low) / (high - low), 0.0), 1.0), t)
            for t in self.t_statistics()
        )
