"""Hypergradients of every inner step, and of the coefficients that give the steps' values."""

from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.basis import Windows
from hypergrad.core.schedule import Schedule, contributing_steps
from hypergrad.core.training_step import InnerState
from hypergrad.differentiation.diagnostics import HypergradientDiagnostics, signal_to_noise
from hypergrad.differentiation.result import Hypergradients

__all__ = ["PerStep", "gather"]


class PerStep(NamedTuple):
    """Hypergradients of the values of every single inner step.

    Attributes:
        names: Of the hyperparameters whose value is a number.
        values: `(K, T, len(names))` float64 on the CPU, for each chunk of the validation data.
        vectors: Of those whose value is a vector, by name: `(K, total)`, of their coefficients,
            summed over the steps.
        shares: Share of the validation examples in each chunk.
        batches: Validation batches in each chunk.
        clipped_gradients: Share of the entries of the training gradients that a clip touched.
        clipped_adjoints: Share of the adjoints that were scaled down; None where none may be.
    """

    names: tuple[str, ...]
    values: Tensor
    vectors: dict[str, Tensor]
    shares: tuple[float, ...]
    batches: tuple[int, ...]
    clipped_gradients: float
    clipped_adjoints: float | None = None

    @property
    def mean(self) -> Tensor:
        """`(T, len(names))` hypergradients of the loss over all validation data."""
        return torch.einsum(
            "k,kts->ts", torch.tensor(self.shares, dtype=torch.float64), self.values
        )


def gather(
    found: PerStep, schedule: Schedule, state: InnerState, truncation: float = 0.0
) -> Hypergradients:
    """Return the hypergradient of every coefficient of a schedule, from those of every step.

    Args:
        found: Of every step.
        schedule: Only its bases matter.
        state: Where the inner loop ended.
        truncation: `tau`, with which they were found.

    Returns:
        Means over the windows of the values; over other bases, as forward mode divides.
    """
    horizon = found.values.shape[1]
    # On the way back: what is lost at one step is lost at all the steps before it.
    all_lost = (~found.values.isfinite()).any(dim=2).any(dim=0).nonzero().flatten()
    began = int(all_lost[-1]) if len(all_lost) else None
    contributing = contributing_steps(schedule.bases, horizon, truncation)
    sums: list[Tensor] = []
    bad: list[tuple[int, int | None]] = []
    for name, own in schedule.items():
        if name in found.vectors:
            sums.extend(found.vectors[name].unbind(dim=1))
            lost = (~found.vectors[name].isfinite()).any(dim=0).tolist()
            bad.extend((int(each), began if each else None) for each in lost)
        elif own:
            per_step = found.values[:, :, found.names.index(name)]
            own_sums, own_lost = _over_basis(per_step, schedule, name)
            sums.extend(own_sums)
            bad.extend((lost, began if lost else None) for lost in own_lost)
    if not sums:
        return Hypergradients((), (), state, ())
    samples = torch.stack(sums, dim=1) / torch.tensor(contributing, dtype=torch.float64)
    shares = torch.tensor(found.shares, dtype=torch.float64)
    ratios = signal_to_noise(samples, found.batches)
    diagnostics = tuple(
        HypergradientDiagnostics(ratio, found.clipped_gradients, found.clipped_adjoints, *lost)
        for ratio, lost in zip(ratios, bad, strict=True)
    )
    return Hypergradients(tuple((shares @ samples).tolist()), contributing, state, diagnostics)


def _over_basis(per_step: Tensor, schedule: Schedule, name: str) -> tuple[list[Tensor], list[int]]:
    """Sums of `(K, T)` hypergradients over the functions of a basis, and how many are lost."""
    basis, horizon = schedule.bases[name], per_step.shape[1]
    if isinstance(basis, Windows):
        parts = [per_step[:, slice(*basis.window(i, horizon))] for i in range(basis.count)]
        lost = [int((~part.isfinite()).any(dim=0).sum()) for part in parts]
        return [part.sum(dim=1) for part in parts], lost
    B = per_step.new_zeros(horizon, basis.count)
    for step in range(horizon):
        for function, weight in basis.weights(step, horizon):
            B[step, function] += weight
    gone = (~per_step.isfinite()).any(dim=0)
    lost = [int((gone & (column != 0)).sum()) for column in B.T]
    # A zero weight keeps out what is not finite.
    sums = [per_step[:, column != 0] @ column[column != 0] for column in B.T]
    return sums, lost
