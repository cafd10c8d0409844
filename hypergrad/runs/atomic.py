"""Files that are replaced whole: a crash leaves the old content or the new, never a mixture."""

import contextlib
import os
import secrets
from pathlib import Path

__all__ = ["remove_leftovers", "sync_folder", "write_bytes_atomically", "write_text_atomically"]

_SUFFIX = ".tmp~"


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
        os.replace(temporary, path)
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
    for leftover in Path(folder).glob(f".*{_SUFFIX}"):
        leftover.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the creation, renaming and deletion of files in `folder` survive a power cut.

    Args:
        folder: An existing folder.
    """
    if os.name == "nt":  # folders cannot be opened there, and the file system orders its own writes
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
