"""Files of a run directory, which a stranger may have made: plain, bounded, inside, no links.

A run writes ordinary files and folders and nothing else, so whatever else lies there was put there.
"""

import errno
import gzip
import io
import json
import os
import re
import stat
import zlib
from pathlib import Path

__all__ = [
    "CSV_LIMIT",
    "JSON_LIMIT",
    "YAML_LIMIT",
    "check_member_name",
    "check_plain",
    "check_tree",
    "read_csv_bytes",
    "read_json",
    "read_plain",
]

MIB = 2**20
CSV_LIMIT = 64 * MIB  # bytes; reading a table takes some twenty times as much memory
JSON_LIMIT = 32 * MIB
YAML_LIMIT = MIB // 4  # a configuration has some 5 kB
_MEMBER = re.compile(r"[\w+=-][\w.,+=-]{0,199}")
# Not there on Windows, whose links only an administrator makes.
_FLAGS = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")


def check_member_name(name: object) -> str:
    """Return the name of a member of a run if it is that of a folder in it.

    Raises:
        ValueError: For anything else, such as `../victim`.
    """
    if not isinstance(name, str) or not _MEMBER.fullmatch(name):
        raise ValueError(f"members.json: {name!r:.60} is no plain folder name: restore the file")
    return name


def check_plain(path: Path) -> None:
    """Refuse what is there and is no ordinary file: a link, a folder, a pipe, a device.

    Raises:
        ValueError: One line that names it.
    """
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(mode):
        raise _not_plain(path, mode)


def check_tree(folder: Path) -> None:
    """Refuse a run directory in which something is neither an ordinary file nor a folder.

    What writes into it could else be led to files elsewhere. The directory may itself be a link.

    Raises:
        ValueError: One line that names the first.
    """
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                found = list(entries)
        except (FileNotFoundError, NotADirectoryError):  # gone meanwhile
            continue
        for entry in found:
            try:
                mode = entry.stat(follow_symlinks=False).st_mode
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(mode):
                waiting.append(entry.path)
            elif not stat.S_ISREG(mode):
                raise _not_plain(Path(entry.path), mode)


def read_plain(path: Path, limit: int) -> bytes:
    """Return the content of an ordinary file, which is no link and not too large.

    Args:
        path: The file.
        limit: In bytes.

    Raises:
        ValueError: For a link, a pipe, a device, a file that is larger.
        OSError: If it is missing or cannot be read.
    """
    flags = os.O_RDONLY
    for name in _FLAGS:
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):  # of a link; FreeBSD has the second
            raise ValueError(f"{path} is a link: put the file itself there") from None
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise _not_plain(path, mode)
    with open(descriptor, "rb") as file:
        content = file.read(limit + 1)
    return _bounded(path, content, limit)


def read_csv_bytes(path: Path) -> bytes:
    """Return the content of a CSV file, unpacked if its name ends in `.gz`.

    Raises:
        ValueError: As of `read_plain`, of what it unpacks to too; for a broken archive.
        OSError: If it is missing or cannot be read.
    """
    content = read_plain(path, CSV_LIMIT)
    if path.suffix != ".gz":
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return _bounded(path, file.read(CSV_LIMIT + 1), CSV_LIMIT)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be unpacked ({error})") from None


def read_json(path: Path) -> object:
    """Return the content of a JSON file.

    Raises:
        ValueError: As of `read_plain`; if it is no JSON, or nested too deeply.
        OSError: If it is missing or cannot be read.
    """
    content = read_plain(path, JSON_LIMIT)
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _bounded(path: Path, content: bytes, limit: int) -> bytes:
    if len(content) > limit:
        size = f"{limit // MIB} MiB" if limit >= MIB else f"{limit // 1024} KiB"
        raise ValueError(f"{path} holds more than {size}: no run writes so much there")
    return content


def _not_plain(path: Path, mode: int) -> ValueError:
    kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe"}
    kind = kinds.get(stat.S_IFMT(mode), "no file")
    return ValueError(f"{path} is {kind}, where a run has a plain file: take it away")
