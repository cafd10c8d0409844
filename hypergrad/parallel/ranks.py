"""Several processes that share the tangents of one inner loop: who they are, what they exchange.

Given the trajectory, the rows of `Z` and `C` do not depend on each other, so each process (a
*rank*) carries some of them along the same trajectory. Rank 0's trajectory is the one that counts:
kernels of a GPU need not give the same bits twice, and ranks that drift apart would each
differentiate another training. Weights travel as they lie (NCCL between GPUs, gloo between CPUs);
words and results travel over gloo.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["ALONE", "Ranks", "current_ranks", "join_ranks"]

T = TypeVar("T")

# A rank may wait for hours while rank 0 trains without tangents. Nobody waits for the dead: their
# connections break, and torchrun ends the others.
PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Ranks:
    """The processes that share the rows, as one of them sees them; what it does, all do at once.

    Attributes:
        rank: Which one this is, from 0.
        size: How many there are.
        words: Their group for everything but weights; None for one that is alone.
    """

    rank: int = 0
    size: int = 1
    words: "dist.ProcessGroup | None" = None

    def share(self, count: int) -> tuple[int, ...]:
        """Return which of `count` rows are this rank's.

        Windows of a kind come into use one after the other, so neighbours go to different ranks.

        >>> Ranks(1, 3).share(7)
        (1, 4)
        """
        return tuple(range(self.rank, count, self.size))

    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors, on any device, with those of rank 0.

        Args:
            tensors: Of the same shapes and types on every rank.
        """
        if self.size == 1:
            return
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault(tensor.dtype, []).append(tensor)
        for alike in kinds.values():  # one message a type, and not one a buffer
            packed = torch.cat([tensor.reshape(-1) for tensor in alike])
            dist.broadcast(packed, 0)
            if self.rank:
                flat = packed.split([tensor.numel() for tensor in alike])
                for tensor, own in zip(alike, flat, strict=True):
                    tensor.copy_(own.view_as(tensor))

    def synchronise(self, tensors: Sequence[Tensor]) -> None:
        """Begin where rank 0 does: with its tensors, and its global generators for dropout.

        Args:
            tensors: As for `broadcast_tensors`; at least one, on the device of the generator.
        """
        if self.size == 1:
            return
        self.broadcast_tensors(tensors)
        device = tensors[0].device
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        state, cuda = self.broadcast_object((torch.get_rng_state(), cuda))
        torch.set_rng_state(state)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)

    def broadcast_object(self, thing: T | None = None) -> T:
        """Return what rank 0 gave for `thing`, on every rank."""
        box: list = [thing]
        if self.size > 1:
            dist.broadcast_object_list(box, 0, group=self.words)
        return box[0]

    def broadcast_number(self, number: int) -> int:
        """Return the number that rank 0 gave: what is said at every step."""
        if self.size == 1:
            return number
        message = torch.tensor(number)
        dist.broadcast(message, 0, group=self.words)
        return int(message)

    def collect(self, rows: Sequence[T]) -> list[T]:
        """Return one entry a row, on every rank, in the order of all rows.

        Args:
            rows: What the rows of this rank's share came to.
        """
        if self.size == 1:
            return list(rows)
        shares: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(shares, list(rows), group=self.words)
        count = sum(map(len, shares))
        return [shares[row % self.size][row // self.size] for row in range(count)]

    def gather(self, rows: Tensor) -> Tensor:
        """Return a copy with all rows at rank 0, on the CPU; the other ranks get their own rows.

        Args:
            rows: `(n, ...)`, one entry a row of this rank's share.
        """
        if self.size == 1:
            return rows.clone()
        rows = rows.cpu()
        shares: list[Tensor] | None = [rows] * self.size if self.rank == 0 else None
        dist.gather_object(rows, shares, group=self.words)
        if shares is None:
            return rows
        whole = rows.new_empty(sum(map(len, shares)), *rows.shape[1:])
        for rank, share in enumerate(shares):
            whole[rank :: self.size] = share
        return whole

    def leave(self) -> None:
        """Close the connections; this is the last thing that a rank does."""
        if self.size > 1:
            # Nobody closes while another is still talking; one that is gone has left already.
            with contextlib.suppress(RuntimeError):
                dist.barrier(group=self.words)
            dist.destroy_process_group()
            join_ranks.cache_clear()


ALONE = Ranks()


@cache
def join_ranks() -> Ranks:
    """Return the processes that torchrun started, once all of them have called this.

    On machines with GPUs, each takes the one with its local rank. A process group that
    torch.distributed has already is used as it is.

    Returns:
        The ranks; `ALONE` in a process that torchrun did not start.
    """
    if not (dist.is_available() and dist.is_initialized()):
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return ALONE
        local = int(os.environ["LOCAL_RANK"])
        if local < torch.cuda.device_count():
            torch.cuda.set_device(local)
        nccl = torch.cuda.is_available() and dist.is_nccl_available()
        dist.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo", timeout=PATIENCE)
    if dist.get_world_size() == 1:
        return ALONE
    words = dist.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(words, dist.ProcessGroup), "every rank is in the group of all"
    return Ranks(dist.get_rank(), dist.get_world_size(), words)


def current_ranks() -> Ranks:
    """Return the ranks that this process has joined; `ALONE` where it has joined none."""
    return join_ranks() if join_ranks.cache_info().currsize else ALONE
