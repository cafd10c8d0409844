"""The C library's allocator, told to keep the memory of large temporaries.

glibc returns a freed block of more than some megabytes to the system at once, so that every
activation of every step is mapped, zeroed page by page and unmapped again. Kept, it is used again
at the next step; what it costs is a heap that never shrinks below its largest extent.
"""

import os
import platform

__all__ = ["keep_freed_memory"]

# Parameters of mallopt(3), and the most that it takes.
M_TRIM_THRESHOLD, M_MMAP_MAX, LARGEST = -1, -4, 2**31 - 1
TUNABLES = f"glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold={LARGEST}"


def keep_freed_memory() -> bool:
    """Let this process, and processes that it starts from now on, keep what they free.

    For programs, not for libraries: it changes the whole process. Where `GLIBC_TUNABLES` is set
    in the environment already, somebody else has decided, and nothing is done.

    Returns:
        Whether that was done; only with glibc.
    """
    if platform.libc_ver()[0] != "glibc" or "GLIBC_TUNABLES" in os.environ:
        return False
    import ctypes  # here, because not every Python has it

    libc = ctypes.CDLL(None)
    done = libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, LARGEST)
    os.environ["GLIBC_TUNABLES"] = TUNABLES
    return bool(done)
