"""Data as people give it: loaders, lists of batches, functions; or a sentence of what to give."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hypergrad.core.batches import to_device
from hypergrad.core.functional_model import Batch
from hypergrad.data import Batches, CachedBatches, Images

__all__ = ["as_training", "as_validation"]

WRAP = "give a list of batches, [(inputs, labels)] for a single one"


def as_training(given: object, device: torch.device) -> Batches:
    """Return training batches.

    Args:
        given: Batches of a source, or a loader, which is kept in memory.
        device: Where a loader's batches go.

    Raises:
        ValueError: For anything else, with what to do about it.
    """
    if isinstance(given, DataLoader):
        return CachedBatches(given, device=device)
    if isinstance(given, Batches) and not isinstance(given, type):
        return given
    if isinstance(given, tuple | list | Dataset | Tensor | Mapping):
        raise ValueError(
            f"batches is a {type(given).__name__}: give "
            "hypergrad.data.as_batches(data, batch_size, key), a DataLoader, or a function"
        )
    raise ValueError(
        f"batches is a {type(given).__name__}, and has no at(step) and steps_per_epoch: give a "
        "source of hypergrad.data, a DataLoader, or a function that returns one of them"
    )


def as_validation(given: object, device: torch.device) -> Sequence[Batch] | Images:
    """Return validation batches.

    Args:
        given: A list of batches, images, or a loader, which is read once.
        device: Where a loader's batches go.

    Raises:
        ValueError: For nothing, and for anything else.
    """
    if isinstance(given, DataLoader):
        given = [to_device(batch, device) for batch in given]
    if isinstance(given, Images):
        return given
    if isinstance(given, Tensor | Mapping) or not isinstance(given, Sequence):
        raise ValueError(f"validation is a {type(given).__name__}: {WRAP}, or a DataLoader")
    if not len(given):
        raise ValueError("no validation data: give at least one batch")
    if isinstance(given, tuple) and all(isinstance(each, Tensor) for each in given):
        raise ValueError(f"validation is one batch, a tuple of {len(given)} tensors: {WRAP}")
    return given
