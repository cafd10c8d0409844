"""What an inner run reads, and what a map-style data set is."""

from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

from hypergrad.core.batches import Nest

__all__ = ["Batches", "Key", "MapDataset"]

Key: TypeAlias = tuple[int | str, ...]  # names a stream, as for `core.seeding.generator`
Example = TypeVar("Example", covariant=True)


@runtime_checkable
class Batches(Protocol):
    """What an inner run reads: the batch of any step, the same one whenever it is asked for."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, at least 1."""
        ...

    def at(self, step: int) -> Nest:
        """Return the batch of 0-based inner step `step`."""
        ...


@runtime_checkable
class MapDataset(Protocol[Example]):
    """A map-style data set, of PyTorch or not: examples by index, and how many there are."""

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def __getitem__(self, index: int, /) -> Example:
        """Return the example at `index`."""
        ...
