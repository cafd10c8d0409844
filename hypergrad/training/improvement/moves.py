"""Where a schedule may move: every coefficient on its own scale, some of them along with others.

A coefficient `c` has a place `x` on its scale, its logarithm, say. Some move others along: with
plain momentum `beta` a step is as large as `alpha / (1 - beta)`, and to move `-log(1 - beta)` by
`d` moves `log alpha` by `-d`, which holds its size. A move `m` of all of them makes

    x' = x + E m        E = identity, less one for each pair (moved along, held)

so the gradient with respect to the moves is `E^T (dc/dx dL/dc)`.
"""

import math
from collections.abc import Mapping, Sequence

from hypergrad.core.basis import Basis
from hypergrad.core.hyperparameters import Hyperparameter

__all__ = ["Moves"]

Vector = tuple[float, ...]


class Moves:
    """The coefficients of all that is learned, and how they move.

    Args:
        learned: What is learned, with the base schedule as its start.
        step_size: Target of those that scale a step: the ladder and the margin are theirs.
        held: Maps a target to another that moves along to hold a step's size.

    Attributes:
        columns: Whose each coefficient is.
        base: The coefficients of the base schedule.
        sizes: First move of each, on its scale.

    Raises:
        ValueError: If nothing scales a step, or what does is not on a `log` scale.
    """

    def __init__(
        self,
        learned: Sequence[Hyperparameter],
        step_size: str,
        held: Mapping[str, str] | None = None,
    ) -> None:
        self.columns = [each for each in learned for _ in each.coefficients]
        self.base: Vector = tuple(value for each in learned for value in each.coefficients)
        self.sizes: Vector = tuple(each.first_move for each in self.columns)
        self._of_step = [each.target == step_size for each in self.columns]
        if not any(self._of_step):
            raise ValueError(
                f"nothing sets {step_size}: declare it, with the base schedule's start"
            )
        if any(
            own and each.scale != "log"
            for own, each in zip(self._of_step, self.columns, strict=True)
        ):
            raise ValueError(f"{step_size} moves by factors: declare it with scale='log'")
        held = held or {}
        self._along = [
            [j for j, other in enumerate(self.columns) if other.target == held.get(each.target)]
            if each.over.count == 1
            else []
            for each in self.columns
        ]

    @property
    def bases(self) -> dict[str, Basis]:
        """The bases, by name, in the order of the coefficients."""
        return {each.name: each.over for each in self.columns}

    def moved(self, values: Vector, by: Sequence[float]) -> Vector:
        """Return coefficients moved on their scales, within their bounds.

        Args:
            values: The coefficients.
            by: A move of each.
        """
        own = self._kept_within(values, by)
        total = list(own)
        for i, along in enumerate(self._along):
            for j in along:
                total[j] -= own[i]
        return tuple(
            each.moved(value, move)
            for each, value, move in zip(self.columns, values, total, strict=True)
        )

    def scaled(self, values: Vector, factor: float) -> Vector:
        """Return coefficients whose steps are `factor` times as large."""
        by = math.log(factor)
        return tuple(
            each.moved(value, by) if own else value
            for each, value, own in zip(self.columns, values, self._of_step, strict=True)
        )

    def gradient(self, values: Vector, derivatives: Sequence[float]) -> Vector:
        """Return derivatives with respect to the moves.

        Args:
            values: Where.
            derivatives: Of the loss with respect to the coefficients.
        """
        on_scale = [
            each.slope(value) * own
            for each, value, own in zip(self.columns, values, derivatives, strict=True)
        ]
        return tuple(
            own - sum(on_scale[j] for j in along)
            for own, along in zip(on_scale, self._along, strict=True)
        )

    def smaller_steps(self) -> Vector:
        """Return the direction in which steps become smaller."""
        return tuple(-1.0 if own else 0.0 for own in self._of_step)

    def _kept_within(self, values: Vector, by: Sequence[float]) -> list[float]:
        """The moves that bounds leave: what is held along goes no further than its cause."""
        return [
            each.distance(value, each.moved(value, move)) if along else move
            for each, value, move, along in zip(self.columns, values, by, self._along, strict=True)
        ]
