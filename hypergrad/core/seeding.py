"""Random streams that are pure functions of a key: nothing to save, nothing to restore."""

import hashlib

import torch

__all__ = ["generator", "seed_of"]


def seed_of(*key: int | str) -> int:
    """Return a seed in `[0, 2**63)` that depends on every entry of `key` and on nothing else.

    Args:
        *key: What the stream is for, for example `(seed, "shuffle", outer_step, epoch)`.

    Returns:
        The same integer on every machine and in every process.

    >>> seed_of(0, "shuffle", 1) == seed_of(0, "shuffle", 1)
    True
    >>> seed_of(0, "shuffle", 1) == seed_of(0, "shuffle", 2)
    False
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*key: int | str) -> torch.Generator:
    """Return a CPU generator at the start of the stream named by `key`.

    Draws are made on the CPU and moved, so that a run sees the same batches on every device.

    Args:
        *key: As for `seed_of`.

    Returns:
        A fresh `torch.Generator` on the CPU.

    >>> [int(torch.randint(9, (), generator=generator(3))) for _ in range(2)] == [
    ...     int(torch.randint(9, (), generator=generator(3))) for _ in range(2)
    ... ]
    True
    """
    return torch.Generator().manual_seed(seed_of(*key))
