"""Minibatches of tensors and of map-style data sets: a pure function of a key and a step."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from hypergrad.core.batches import Nest, map_tensors, tensors_in, to_device
from hypergrad.core.seeding import generator, seed_of
from hypergrad.data.protocols import Key, MapDataset

__all__ = ["DatasetBatches", "TensorBatches"]

Example = TypeVar("Example")
Tree = TypeVar("Tree", bound=Nest)


class TensorBatches(Generic[Tree]):
    """Shuffled minibatches of tensors.

    With one key, the batches have the same examples as those of `Minibatches` and
    `DatasetBatches`.

    Args:
        tree: A nest of tensors `(size, ...)`, on the compute device.
        batch_size: Examples in a minibatch. The last, incomplete one of an epoch is dropped.
        key: Names the stream; epoch `e` is shuffled by `(*key, e)`.
        shuffle: Whether to draw a random order; otherwise the tensors' own.
        with_index: Whether a batch, then always a dict, has each example's number in `tree` as
            `index`, `(batch_size,)`. A pair becomes `inputs` and `labels`.

    Raises:
        ValueError: If the tensors have not one first dimension, or something else is among them,
            or there is not one full batch, or `with_index` has no name for what is in `tree`.

    >>> batches = TensorBatches(torch.arange(10), 4, key=(0, "train"), shuffle=False)
    >>> batches.steps_per_epoch, batches.at(1), batches.at(2)
    (2, tensor([4, 5, 6, 7]), tensor([0, 1, 2, 3]))
    """

    def __init__(
        self,
        tree: Tree,
        batch_size: int,
        key: Key,
        *,
        shuffle: bool = True,
        with_index: bool = False,
    ) -> None:
        _check_tensors_only(tree)
        tensors = list(tensors_in(tree))
        sizes = {len(x) if x.dim() > 0 else None for x in tensors}
        if len(sizes) != 1 or None in sizes:
            shapes = ", ".join(str(tuple(x.shape)) for x in tensors)
            raise ValueError(
                f"tensors of shapes {shapes or 'none'}: give one or more, with the same first "
                "dimension, the examples"
            )
        self._tree = _named(tree) if with_index else tree
        self._with_index = with_index
        self._device = tensors[0].device
        self._order = _Order(len(tensors[0]), batch_size, key, shuffle)

    @property
    def steps_per_epoch(self) -> int:
        """Full minibatches in an epoch."""
        return self._order.steps_per_epoch

    def at(self, step: int) -> Tree:
        """Return the batch of 0-based inner step `step`: the same nest, copies of its rows."""
        index = self._order.at(step).to(self._device)
        batch = map_tensors(lambda x: x[index.to(x.device)], self._tree)
        if self._with_index:
            assert isinstance(batch, dict)  # made so on construction
            batch["index"] = index
        return cast(Tree, batch)


class DatasetBatches:
    """Shuffled minibatches of a map-style data set, such as `torch.utils.data.Dataset`.

    A data set may draw random numbers as it makes an example, from Python's, NumPy's or PyTorch's
    global state: all three are seeded by key and step around each fetch, and put back, so that the
    same batch comes back whenever it is asked for. (One that keeps a generator of its own must
    seed it by the index.) Examples are made in this process, one batch at a time.

    Args:
        dataset: Has a length, and an example at each index.
        batch_size: Examples in a minibatch. The last, incomplete one of an epoch is dropped.
        key: Names the stream; epoch `e` is shuffled by `(*key, e)`.
        collate: Makes a batch of a list of examples, as for a `DataLoader`.
        device: Where the batches are wanted; None leaves them where `collate` makes them.
        shuffle: Whether to draw a random order; otherwise the data set's own.

    Raises:
        ValueError: If there is not one full batch.
    """

    def __init__(
        self,
        dataset: MapDataset[Example],
        batch_size: int,
        key: Key,
        collate: Callable[[list[Example]], Nest] = default_collate,
        device: torch.device | str | None = None,
        *,
        shuffle: bool = True,
    ) -> None:
        self._dataset = dataset
        self._key = key
        self._collate = collate
        self._device = device
        self._order = _Order(len(dataset), batch_size, key, shuffle)

    @property
    def steps_per_epoch(self) -> int:
        """Full minibatches in an epoch."""
        return self._order.steps_per_epoch

    def at(self, step: int) -> Nest:
        """Return the batch of 0-based inner step `step`, made anew."""
        indices = self._order.at(step).tolist()
        with _seeded(seed_of(*self._key, step, "fetch")):
            # What a DataLoader asks first: data sets that read many examples at once have it.
            fetch_all = getattr(self._dataset, "__getitems__", None)
            examples = fetch_all(indices) if fetch_all else [self._dataset[i] for i in indices]
            batch = self._collate(examples)
        return to_device(batch, self._device)


class _Order:
    """The examples of every step, epoch by epoch."""

    def __init__(self, size: int, batch_size: int, key: Key, shuffle: bool) -> None:
        if not 1 <= batch_size <= size:
            raise ValueError(
                f"batch size {batch_size} does not fit {size} examples: choose one from 1 to {size}"
                if size
                else "there are no examples to make batches of: use a larger set"
            )
        self._size, self._batch_size = size, batch_size
        self._key, self._shuffle = key, shuffle
        self._epoch, self._order = 0, self._draw(0)
        self.steps_per_epoch = size // batch_size

    def at(self, step: int) -> Tensor:
        """Return the `(batch_size,)` indices of a step, on the CPU."""
        if step < 0:
            raise ValueError(f"step {step} is negative: steps count from 0")
        epoch, i = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._draw(epoch)
        return self._order[i * self._batch_size : (i + 1) * self._batch_size]

    def _draw(self, epoch: int) -> Tensor:
        if not self._shuffle:
            return torch.arange(self._size)
        return torch.randperm(self._size, generator=generator(*self._key, epoch, "shuffle"))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global random states of Python, NumPy and PyTorch, and put them back after."""
    on_gpu = torch.cuda.is_initialized()
    devices = [torch.cuda.current_device()] if on_gpu else []
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=devices):
        # Not torch.manual_seed: that seeds every device, and only these are put back.
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _check_tensors_only(tree: Nest) -> None:
    if isinstance(tree, Tensor):
        return
    if not isinstance(tree, (tuple, list, Mapping)):
        raise ValueError(
            f"a {type(tree).__name__} among the tensors: convert it with torch.as_tensor, or "
            "leave it out"
        )
    for entry in tree.values() if isinstance(tree, Mapping) else tree:
        _check_tensors_only(entry)


def _named(tree: Nest) -> Mapping[str, Nest]:
    """Return the tree as a dict that has room for an index."""
    if isinstance(tree, (tuple, list)) and len(tree) == 2:
        return {"inputs": tree[0], "labels": tree[1]}
    if not isinstance(tree, Mapping) or "index" in tree:
        what = "dict with index" if isinstance(tree, Mapping) else type(tree).__name__
        raise ValueError(
            f"with_index cannot name the entries of a {what}: give (inputs, labels), or a dict "
            "without index"
        )
    return tree
