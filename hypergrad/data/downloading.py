"""Fetching data sets once, by torchvision and with its checksums."""

import contextlib
import io
import os
import socket
import sys
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from filelock import FileLock, Timeout

from hypergrad.data.catalogue import CATALOGUE, DataError, data_root
from hypergrad.data.torchvision_files import (
    StoredFile,
    find_fault,
    find_foreign,
    has_checksum,
    one_line,
    stored_files,
    vision_datasets,
)

__all__ = ["absent", "download", "not_mnist"]

_SILENCE = 20.0  # seconds without a byte after which a server counts as gone

# torchvision raises RuntimeError for a wrong checksum and when every mirror has failed.
_FAILURES = (URLError, ConnectionError, TimeoutError, HTTPException, RuntimeError, EOFError)


def download(name: str, root: Path | None = None) -> Path:
    """Fetch a data set unless it is there already.

    How much it is and where it goes is said before it begins. Nothing is written, not even a lock
    file, where the set is already whole; a download that fails leaves no lock and no empty folder.

    Args:
        name: `mnist`, `svhn` or `cifar10`.
        root: The data root; see `data_root`.

    Returns:
        The data root in use.

    Raises:
        DataError: If it cannot be fetched or written, or other files have MNIST's names.
        ValueError: If there is no such set to download.
    """
    if name not in CATALOGUE or name == "digits":
        known = ", ".join(key for key in CATALOGUE if key != "digits")
        raise ValueError(f"nothing to download for {name!r}: choose one of {known}")
    folder = data_root(root)
    try:
        if find_fault(name, folder, checksums=True) is None:
            return folder
        if name == "mnist" and (foreign := find_foreign(folder)) is not None:
            raise not_mnist(foreign)  # perhaps somebody's own: not to be deleted here
        with _swept(name, folder):
            folder.mkdir(parents=True, exist_ok=True)
            with _only_process(folder / f".{name}.lock", name):
                _fetch(name, folder)  # nothing to do if the other process has fetched it
    except OSError as error:
        raise DataError(
            f"cannot write {name} to {folder} ({error.strerror or error}): "
            "choose one you can write to, root=FOLDER, or use digits, which needs no download"
        ) from error
    return folder


def absent(name: str, root: Path, fault: StoredFile) -> DataError:
    """Describe a data set that is not there.

    Args:
        name: `mnist`, `svhn` or `cifar10`.
        root: The folder that was searched.
        fault: The first file that is missing or cut short.

    Returns:
        The error to raise.
    """
    inside = fault.path.relative_to(root)
    state = "cut short or unreadable" if os.path.exists(fault.path) else "missing"
    return DataError(f"data set {name} is not in {root} ({inside} is {state}): {_remedy(name)}")


def not_mnist(foreign: StoredFile) -> DataError:
    """Describe a file that bears a name of MNIST's and is not MNIST's.

    Args:
        foreign: The file.

    Returns:
        The error to raise.
    """
    return DataError(
        f"{foreign.path} is not MNIST's (its checksum is not {foreign.md5}): move it away and run "
        "`hypergrad data download mnist`, name a folder that holds MNIST, root=FOLDER, or bring "
        "images of your own with imagefolder"
    )


def _remedy(name: str) -> str:
    return (
        f"run `hypergrad data download {name}`, name a folder that holds it, root=FOLDER, "
        "or use digits, which needs no download"
    )


def _fetch(name: str, root: Path) -> None:
    fault = find_fault(name, root, checksums=True)
    if fault is None:
        return
    size = CATALOGUE[name].download / 1e6
    print(f"downloading {name} ({size:.0f} MB) to {root}", file=sys.stderr)
    try:
        with _put_aside(fault.path), _quiet_stdout(), _timeout():
            _torchvision_download(name, root)
            left = find_fault(name, root, checksums=True)
            if left is not None:
                raise RuntimeError(f"{left.path.name} is wrong after unpacking")
    except _FAILURES as error:
        for archive in stored_files(name, root, archives=True):
            # What is left of a failed download would only take up space.
            if archive.path.exists() and not has_checksum(archive):
                archive.path.unlink()
        short = ""
        if fault.path.exists():
            short = f"{fault.path.relative_to(root)} is cut short or altered; "
        raise DataError(
            f"{short}could not download {name} to {root} ({one_line(error)}): with a network, "
            f"{_remedy(name)}"
        ) from error


@contextlib.contextmanager
def _put_aside(path: Path) -> Iterator[None]:
    """Move a broken file away, which comes back if nothing takes its place.

    torchvision unpacks MNIST only if a file is missing, not if one was cut short.
    """
    aside = path.with_name(f".{path.name}.short~")
    is_there = path.is_file() and not path.is_symlink()
    if is_there:
        os.replace(path, aside)
    else:
        path.unlink(missing_ok=True)
    try:
        yield
    except BaseException:
        if is_there and not path.exists():
            os.replace(aside, path)
        raise
    finally:
        aside.unlink(missing_ok=True)


def _torchvision_download(name: str, root: Path) -> None:
    vision = vision_datasets()
    # A bare instance: the constructor would download and then also read and decode everything.
    if name == "svhn":
        for split in ("train", "test"):
            url, file, md5 = vision.SVHN.split_list[split]
            vision.utils.download_url(url, root, file, md5)
        return
    kind = vision.MNIST if name == "mnist" else vision.CIFAR10
    bare = kind.__new__(kind)
    bare.root = str(root)
    bare.download()


@contextlib.contextmanager
def _swept(name: str, folder: Path) -> Iterator[None]:
    """Take away the lock, and folders that were made for nothing, where the block fails."""
    made = [
        path for path in (folder / "MNIST" / "raw", folder / "MNIST", folder) if not path.exists()
    ]
    made += [path for path in folder.parents if not path.exists()]
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            (folder / f".{name}.lock").unlink()
        for path in made:
            with contextlib.suppress(OSError):  # not empty, or not there
                path.rmdir()
        raise


@contextlib.contextmanager
def _only_process(lock_path: Path, name: str) -> Iterator[None]:
    lock = FileLock(lock_path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"another process is downloading {name}: waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Keep stdout for results: progress goes to a terminal's stderr, or nowhere."""
    with contextlib.redirect_stdout(sys.stderr):
        if sys.stderr.isatty():
            yield
        else:
            with contextlib.redirect_stderr(io.StringIO()):
                yield


@contextlib.contextmanager
def _timeout() -> Iterator[None]:
    """Give up on a silent server: torchvision sets no limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
