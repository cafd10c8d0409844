"""Files that are replaced whole: a crash leaves the old content or the new, never a mixture."""

import contextlib
import errno
import os
import secrets
import time
from pathlib import Path

__all__ = [
    "leftovers",
    "remove_leftovers",
    "sync_folder",
    "write_bytes_atomically",
    "write_text_atomically",
]

_SUFFIX = ".tmp~"
_PATIENCE = 2.0  # seconds that a reader may keep a file from being replaced


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Replace the content of `path`; the new content is on the disk when this returns.

    Args:
        path: File to write; its folder must exist.
        data: The whole new content.

    Raises:
        OSError: If the folder is missing or cannot be written; `path` is then as it was.
    """
    path = Path(path)
    # In the same folder, because a rename is atomic only within one file system. The name is
    # random, so that two writers of one path cannot write into each other's half-made file.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}{_SUFFIX}"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def write_text_atomically(path: Path, text: str) -> None:
    """Replace the content of `path` by `text` in UTF-8, as `write_bytes_atomically` does.

    Args:
        path: File to write; its folder must exist.
        text: The whole new content; line ends are written as they are.

    Raises:
        OSError: If the folder is missing or cannot be written; `path` is then as it was.
    """
    write_bytes_atomically(path, text.encode("utf-8"))


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed processes left in `folder`.

    Call it only where no other process can be writing, because its half-made file would go too.

    Args:
        folder: Folder to clean, not its subfolders; may be missing.
    """
    for leftover in leftovers(folder):
        leftover.unlink(missing_ok=True)


def leftovers(folder: Path) -> list[Path]:
    """Return the temporary files in `folder`: left by a killed process, or being written."""
    return list(Path(folder).glob(f".*{_SUFFIX}"))


def sync_folder(folder: Path) -> None:
    """Make the creation, renaming and deletion of files in `folder` survive a power cut.

    Where a system or a file system cannot bring a folder to the disk, this does nothing.

    Args:
        folder: An existing folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders, and orders its own writes
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # some shared ones
            raise
    finally:
        os.close(descriptor)


def _replace(source: Path, target: Path) -> None:
    """`os.replace`; on Windows it is refused while somebody reads `target`: wait for them."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            os.replace(source, target)
        except PermissionError:
            if not source.exists() or time.monotonic() > until or not os.access(target, os.W_OK):
                raise
            time.sleep(0.01)
        else:
            return
