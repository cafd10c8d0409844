"""The minibatch of any inner step, of whatever data there is."""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from hypergrad.core.batches import Nest, to_device
from hypergrad.data.batches import Minibatches
from hypergrad.data.cached_batches import CachedBatches
from hypergrad.data.derived_batches import accumulated, with_noise
from hypergrad.data.images import Images
from hypergrad.data.protocols import Batches, Key, MapDataset
from hypergrad.data.shuffled_batches import DatasetBatches, TensorBatches

__all__ = [
    "Batches",
    "CachedBatches",
    "DatasetBatches",
    "MapDataset",
    "TensorBatches",
    "accumulated",
    "as_batches",
    "with_noise",
]


def as_batches(
    data: "Batches | Images | Nest | MapDataset[object] | Iterable[Nest]",
    batch_size: int | None,
    key: Key,
    device: torch.device | str | None = None,
) -> Batches:
    """Return the batches of whatever data there is.

    Args:
        data: `Batches` are returned as they are. `Images`, a tensor, a tuple or dict of tensors
            `(size, ...)` and a `TensorDataset` become batches of tensors; another map-style data
            set `DatasetBatches`; a `DataLoader` or another iterable of batches `CachedBatches`.
        batch_size: Examples in a minibatch; None where the batches are already made.
        key: Names the stream that shuffles.
        device: Where the batches are wanted; None leaves them where they are.

    Returns:
        The batches.

    Raises:
        ValueError: If `data` is none of these, or a list, which may be a data set as well as
            batches; or the batch size is missing, or is not that of batches already made.
    """
    if isinstance(data, Batches):
        return data
    if isinstance(data, list):
        raise ValueError(
            "a list may be a data set or its batches: give TensorBatches(data, ...) for a list of "
            "tensors, DatasetBatches(data, ...) of examples, CachedBatches(data) of batches"
        )
    if isinstance(data, IterableDataset):
        raise ValueError(
            f"a {type(data).__name__} gives examples in its own order: give DataLoader(data, "
            "batch_size)"
        )
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, Images):
        return Minibatches(data.to(device), _wanted(batch_size, data), key)
    if isinstance(data, (Tensor, tuple, Mapping)):
        tree = cast(Nest, data)
        return TensorBatches(to_device(tree, device), _wanted(batch_size, data), key)
    if isinstance(data, MapDataset):
        return DatasetBatches(data, _wanted(batch_size, data), key, device=device)
    if isinstance(data, Iterable):
        _check_made(data, batch_size)
        return CachedBatches(data, device=device)
    raise ValueError(
        f"a {type(data).__name__} gives no batches: give tensors, a map-style data set, a "
        "DataLoader, or an object with at(step) and steps_per_epoch"
    )


def _wanted(batch_size: int | None, data: object) -> int:
    if batch_size is None:
        raise ValueError(
            f"no batch size for a {type(data).__name__}: give the examples of a minibatch"
        )
    return batch_size


def _check_made(data: object, batch_size: int | None) -> None:
    made = data.batch_size if isinstance(data, DataLoader) else None
    if batch_size is not None and batch_size != made:
        raise ValueError(
            f"batch size {batch_size} for a {type(data).__name__}, whose batches are already made"
            f"{f' of {made}' if made else ''}: give None"
        )
