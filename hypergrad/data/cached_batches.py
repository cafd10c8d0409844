"""Batches that are already made: one pass of a loader, kept in memory as far as it fits."""

from collections.abc import Iterable, Sized

import torch

from hypergrad.core.batches import Nest, tensors_in, to_device

__all__ = ["CachedBatches"]

_BYTES = 10**9  # in a GB


class CachedBatches:
    """The batches of a `DataLoader`, or of any iterable of them, each had again when asked.

    One pass is read, as far as it is asked for, and kept; every later epoch sees the same batches
    in the same order. A pass that does not fit `memory_gb` is not kept: its batches then come in
    order only, of a fresh iterator each epoch (a loader that shuffles shuffles again). Whether a
    pass fits is judged by its first batch, and again as it is read.

    Reading draws what the iterable draws, a `DataLoader` from the global random state.

    Args:
        iterable: Gives batches, any nests of tensors. If it has a `len`, that many are taken of a
            pass; if not, a whole pass is read now, so it must end.
        memory_gb: What may be kept, in 10**9 bytes; 0 keeps nothing.
        device: Where the batches are wanted, and kept; None leaves them where they are.

    Raises:
        ValueError: If there are no batches, or they come of an iterator that can be read only once
            and do not fit, or `memory_gb` is negative.

    >>> batches = CachedBatches(torch.arange(6).split(2))
    >>> batches.at(4), batches.at(0), batches.steps_per_epoch
    (tensor([2, 3]), tensor([0, 1]), 3)
    """

    def __init__(
        self,
        iterable: Iterable[Nest],
        memory_gb: float = 1.0,
        device: torch.device | str | None = None,
    ) -> None:
        if not memory_gb >= 0:
            raise ValueError(f"memory_gb {memory_gb} is negative: give 0 (keep nothing) or more")
        self._iterable = iterable
        self._memory_gb = memory_gb
        self._device = device
        self._length = _length(iterable)
        self._kept: list[Nest] | None = []
        self._kept_bytes = 0
        self._needed_bytes = 0  # a pass takes at least this much, as far as is known
        self._source = iter(iterable)
        self._read_once = self._source is iterable
        self._next = 0  # the step of the batch that the source gives next
        self._last: tuple[int, Nest] | None = None  # in order only: the batch given last
        if self._length is None:
            self._length = self._read_whole()
        elif self._length > 0:
            self._advance()
        if self._length < 1:
            raise ValueError(
                f"a {type(iterable).__name__} gives no batches: use a larger data set, or a "
                "smaller batch size"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in a pass."""
        assert self._length is not None  # set on construction
        return self._length

    @property
    def random_access(self) -> bool:
        """Whether `at` can go back: all that was read is kept, and the rest should fit as well."""
        return self._kept is not None

    def at(self, step: int) -> Nest:
        """Return the batch of 0-based inner step `step`.

        Args:
            step: From 0; steps before it that were not asked for are read and passed over.

        Returns:
            The batch, on the device; where `random_access`, the one kept, not a copy.

        Raises:
            ValueError: If `step` is negative, or was passed in an iterable that does not fit in
                memory, or a pass gives fewer batches than its `len`.
        """
        if step < 0:
            raise ValueError(f"step {step} is negative: steps count from 0")
        n = self.steps_per_epoch
        # A later epoch needs the whole pass: only then is it known that it can all be kept.
        while self._kept is not None and len(self._kept) < min(step + 1, n):
            self._advance()
        if self._kept is not None:
            return self._kept[step % n]
        while self._next <= step:
            self._advance()
        if self._last is None or self._last[0] != step:
            raise ValueError(
                f"step {step} was asked for after step {self._next - 1}, but the batches come in "
                f"order only: a pass of them takes about {self._needed_bytes / _BYTES:.3g} GB, "
                f"above memory_gb={self._memory_gb:g}: give a map-style data set or tensors, or a "
                "larger memory_gb"
            )
        return self._last[1]

    def _advance(self) -> None:
        """Read one batch, and keep it if it fits."""
        n = self.steps_per_epoch
        if self._next > 0 and self._next % n == 0:
            self._source = iter(self._iterable)
        try:
            batch = next(self._source)
        except StopIteration:
            raise ValueError(
                f"a {type(self._iterable).__name__} of length {n} gave {self._next % n} batches in "
                f"epoch {self._next // n}: its len must be the batches of every pass, and a pass "
                "must be possible again"
            ) from None
        self._take(batch, n)

    def _take(self, batch: Nest, length: int | None) -> None:
        batch = to_device(batch, self._device)
        if self._kept is not None:
            count = len(self._kept) + 1
            self._kept_bytes += sum(x.numel() * x.element_size() for x in tensors_in(batch))
            # The batches to come are taken to be as large as those so far.
            self._needed_bytes = self._kept_bytes * (length or count) // count
            if self._needed_bytes <= self._memory_gb * _BYTES:
                self._kept.append(batch)
                if count == length:
                    self._source = iter(())  # lets go of a loader's workers
            else:
                self._kept = None
        self._last = (self._next, batch) if self._kept is None else None
        self._next += 1

    def _read_whole(self) -> int:
        """Read a pass of unknown length, and return its length."""
        for batch in self._source:
            self._take(batch, None)
            if self._kept is None:
                break
        if self._kept is not None:
            return len(self._kept)
        if self._read_once:
            raise ValueError(
                f"a {type(self._iterable).__name__} can be read only once, and its first "
                f"{self._next} batches take {self._needed_bytes / _BYTES:.3g} GB, above memory_gb="
                f"{self._memory_gb:g}: give a DataLoader, a map-style data set or tensors, or a "
                "larger memory_gb"
            )
        count = self._next
        for _ in self._source:
            count += 1
        self._needed_bytes = self._needed_bytes * count // self._next
        self._source, self._next, self._last = iter(self._iterable), 0, None
        return count


def _length(iterable: Iterable[Nest]) -> int | None:
    if not isinstance(iterable, Sized):
        return None
    try:
        return len(iterable)
    except TypeError:  # a DataLoader of an IterableDataset that has none
        return None
