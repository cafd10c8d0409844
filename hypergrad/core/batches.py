"""Batches: any nest of tensors, and several of them for one step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = [
    "MicroBatches",
    "Nest",
    "cast_floating",
    "example_count",
    "first_examples",
    "map_tensors",
    "tensors_in",
    "to_device",
]

Nest: TypeAlias = "Tensor | Sequence[Nest] | Mapping[str, Nest]"


class MicroBatches(tuple):
    """The batches of one step whose gradients are averaged: gradient accumulation.

    Each has equal weight in the mean, however many examples it has.

    >>> len(MicroBatches([torch.zeros(3), torch.zeros(3)]))
    2
    """

    __slots__ = ()


def map_tensors(function: Callable[[Tensor], Tensor], batch: Nest) -> Nest:
    """Return the same nest with `function` of each tensor in its place.

    Args:
        function: Applied to each tensor.
        batch: A tensor, or tuples (named ones too), lists and mappings of them, nested at will.

    Returns:
        Tuples and lists of their own type, mappings as `dict`; what is no tensor (a string, a
        number, None) is left as it is.

    >>> map_tensors(lambda x: x + 1, (torch.zeros(1), {"labels": torch.ones(1)}))
    (tensor([1.]), {'labels': tensor([2.])})
    """
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {name: map_tensors(function, entry) for name, entry in batch.items()}
    if isinstance(batch, (tuple, list)):
        entries = [map_tensors(function, entry) for entry in batch]
        make = getattr(
            type(batch), "_make", type(batch)
        )  # a named tuple takes its fields one by one
        return make(entries)
    return batch


def tensors_in(batch: Nest) -> Iterator[Tensor]:
    """Go through the tensors of a nest, in order.

    Args:
        batch: Any nest; what is no tensor is passed over.

    Returns:
        An iterator.

    >>> [x.item() for x in tensors_in({"a": torch.tensor(1), "b": [torch.tensor(2), "three"]})]
    [1, 2]
    """
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for entry in batch.values():
            yield from tensors_in(entry)
    elif isinstance(batch, (tuple, list)):
        for entry in batch:
            yield from tensors_in(entry)


def example_count(batch: Nest) -> int:
    """Return the number of examples in a batch.

    Args:
        batch: Any nest; the first tensor in it that has a dimension is `(B, ...)`.

    Returns:
        `B`; of `MicroBatches`, the sum of theirs.

    Raises:
        ValueError: If no tensor has a dimension.

    >>> example_count((torch.zeros(4, 2), torch.zeros(4)))
    4
    """
    if isinstance(batch, MicroBatches):
        return sum(example_count(one) for one in batch)
    for tensor in tensors_in(batch):
        if tensor.dim() > 0:
            return len(tensor)
    raise ValueError(
        f"a batch of type {type(batch).__name__} has no tensor with a first dimension, so its "
        "examples cannot be counted: give tensors of shape (examples, ...)"
    )


def first_examples(batch: Nest, n: int) -> Nest:
    """Return the first examples of a batch.

    Args:
        batch: Any nest.
        n: Examples wanted, at least 1; a batch that has fewer is returned whole.

    Returns:
        The same nest: of every tensor whose first dimension is the batch's, the first `n`
        entries, as views; other tensors whole. Of `MicroBatches`, as many as hold `n` examples.

    Raises:
        ValueError: If `n` is below 1, or the batch has no examples to count.

    >>> first_examples((torch.arange(3), torch.tensor(7)), 2)
    (tensor([0, 1]), tensor(7))
    """
    if n < 1:
        raise ValueError(f"the first {n} examples of a batch are none: ask for at least 1")
    if isinstance(batch, MicroBatches):
        taken: list[Nest] = []
        for one in batch:
            if n < 1:
                break
            taken.append(first_examples(one, n))
            n -= example_count(one)
        return MicroBatches(taken)
    size = example_count(batch)
    return map_tensors(lambda x: x[:n] if x.dim() > 0 and len(x) == size else x, batch)


def to_device(batch: Nest, device: torch.device | str | None) -> Nest:
    """Return the same nest on a device.

    Args:
        batch: Any nest.
        device: Where its tensors are wanted; None leaves them where they are.

    Returns:
        The nest; tensors that lie there already are not copied.
    """
    return batch if device is None else map_tensors(lambda x: x.to(device), batch)


def cast_floating(batch: Nest, dtype: torch.dtype) -> Nest:
    """Return the same nest in another precision.

    Args:
        batch: Any nest.
        dtype: A floating type.

    Returns:
        The nest; labels, indices and masks keep their type.

    >>> [x.dtype for x in cast_floating((torch.zeros(2), torch.arange(2)), torch.float64)]
    [torch.float64, torch.int64]
    """
    return map_tensors(lambda x: x.to(dtype) if x.is_floating_point() else x, batch)
