"""JSON files that carry a checksum of their content and of their own name: a record.

A byte that has changed is seen, and so is a record that was copied to another's name.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from hypergrad.runs.atomic import write_text_atomically
from hypergrad.runs.plain_files import read_json

__all__ = ["checksum", "read_record", "write_record"]

CHECKSUM = "sha256"


def checksum(content: object) -> str:
    """Return a checksum of what `json` can write: the same for the same content, in any order.

    >>> checksum({"a": 1, "b": None}) == checksum({"b": None, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()


def write_record(path: Path, content: Mapping[str, object]) -> None:
    """Write a record; it is on the disk when this returns.

    Args:
        path: Of the file; its name is part of what the checksum is of.
        content: What `json` can write, with strings as keys.
    """
    own = {CHECKSUM: checksum([path.name, dict(content)])}
    write_text_atomically(path, json.dumps({**own, **content}) + "\n")


def read_record(path: Path) -> dict:
    """Return the content of a record.

    Args:
        path: Of the file.

    Raises:
        ValueError: If it is no record, or has changed since it was written, or been renamed.
        FileNotFoundError: If it is missing.
    """
    try:
        record = read_json(path)
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(record, dict) or CHECKSUM not in record:
        raise ValueError("it carries no checksum")
    content = {name: value for name, value in record.items() if name != CHECKSUM}
    if record[CHECKSUM] != checksum([path.name, content]):
        raise ValueError("its checksum does not match its content and its name")
    return content
