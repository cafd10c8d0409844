"""Hyperparameters over epochs, as their bases make them from the coefficients that are logged."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from hypergrad.core.basis import Basis, Cosine, Hats, Vector, WarmUp, Windows
from hypergrad.figures.run_data import RunRecord, floats
from hypergrad.figures.style import tidy_number

MOST_ENTRIES = 12  # of a vector; beyond that no entry has a look and a name of its own
_POINTS = 100  # of a smooth curve


class Curve(NamedTuple):
    """The value of a hyperparameter, `(K,)` each: of a vector one entry after another."""

    epoch: np.ndarray
    value: np.ndarray
    entry: np.ndarray


def basis_of(record: RunRecord, kind: str, rows: pd.DataFrame) -> Basis:
    """The basis of a hyperparameter in one outer step.

    Args:
        record: its run, whose `schedule.json` knows all but windows.
        kind: the hyperparameter.
        rows: of `outer.csv`, one a coefficient.

    Returns:
        The basis. Where the run does not say more than that it is a vector, or behind a warm-up,
        its coefficients are taken for values over the epochs in which they are in use.
    """
    count, known = len(rows), record.bases.get(kind)
    if known is not None and known.count * known.size == count:
        return known
    match str(rows["basis"].iloc[0]):
        case "windows":
            return Windows(count)
        case "hats":
            return Hats(count)
        case "cosine":
            return Cosine(count)
    edges = np.unique(_edges(rows), axis=0)
    if count % len(edges) or (edges[1:, 0] < edges[:-1, 1]).any():
        return _over(Windows(1), count)
    return _over(Windows(len(edges)), count // len(edges))


def curve_of(basis: Basis, rows: pd.DataFrame) -> Curve:
    """The curve of one outer step.

    Windows give a step function, two points a window, at its start and its end; hats straight lines
    between their knots; all others points at equal distances.

    Args:
        basis: of the hyperparameter.
        rows: of `outer.csv`, one a coefficient in order of their indices.
    """
    size = basis.size
    parts = [_number(basis, rows.iloc[entry::size]) for entry in range(size)]
    epochs, values = zip(*parts, strict=True)
    entry = np.repeat(np.arange(size), [part.size for part in epochs])
    return Curve(np.concatenate(epochs), np.concatenate(values), entry)


def coefficient_names(basis: Basis, rows: pd.DataFrame) -> list[str]:
    """What the coefficients of one outer step stand for, in words."""
    size, edges = basis.size, _edges(rows)
    names = []
    for index in range(len(rows)):
        own = _function_name(basis, index // size, edges[index], float(edges.max()))
        if is_vector(basis):
            own = f"entry {index % size}" + (f", {own}" if basis.count > 1 else "")
        names.append(own)
    return names


def _over(windows: Windows, size: int) -> Basis:
    return Vector(size, windows) if size > 1 else windows


def is_vector(basis: Basis) -> bool:
    """Whether the value of a step has entries, if only one."""
    return isinstance(basis, Vector) or basis.size > 1


def is_windows(basis: Basis) -> bool:
    """Whether the hypergradients of a basis are averages over windows."""
    return isinstance(basis.basis if isinstance(basis, Vector) else basis, Windows)


def _number(basis: Basis, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values of a number, or of one entry of a vector."""
    basis = basis.basis if isinstance(basis, Vector) else basis
    edges, values = _edges(rows), floats(rows, "value")
    horizon = edges.max(initial=0.0)
    if isinstance(basis, Windows):
        return edges.ravel(), np.repeat(values, 2)
    if isinstance(basis, Hats):
        if values.size == 1:
            return np.array([0.0, horizon]), np.repeat(values, 2)
        return horizon * np.arange(values.size) / (values.size - 1), values
    # In the middle of a step, which is where a basis has its values.
    epochs = horizon * (np.arange(_POINTS) + 0.5) / _POINTS
    points = [sum(w * values[i] for i, w in basis.weights(t, _POINTS)) for t in range(_POINTS)]
    return epochs, np.array(points, dtype=np.float64)


def _function_name(basis: Basis, function: int, edges: np.ndarray, horizon: float) -> str:
    match basis:
        case Vector(_, inner) | WarmUp(_, inner):
            return _function_name(inner, function, edges, horizon)
        case Hats(count) if count > 1:
            return f"knot at epoch {_tidy(horizon * function / (count - 1))}"
        case Windows() | Hats():
            return f"epochs {_tidy(edges[0])}\N{EN DASH}{_tidy(edges[1])}"
        case Cosine():
            return f"cosine {function}"
    return f"function {function}"


def _edges(rows: pd.DataFrame) -> np.ndarray:
    return np.stack([floats(rows, "start_epoch"), floats(rows, "end_epoch")], axis=1)


def _tidy(epoch: float) -> str:
    return tidy_number(round(float(epoch), 2))
