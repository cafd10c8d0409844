"""JSON from anywhere, read without trust: bounded, finite, and every surprise named."""

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["Node", "parsed", "read_json"]

LARGEST = 32 * 2**20  # bytes of a file
LONGEST = 10_000  # characters of a text
SHOWN = 40  # characters of it in an error

T = TypeVar("T")


def read_json(path: Path) -> "Node":
    """Return the content of a JSON file, to be asked for what it should hold.

    Raises:
        ValueError: In one line: no such file, too large, no JSON, a number that is not finite,
            a key that is there twice.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    with path.open("rb") as file:
        return parsed(file.read(LARGEST + 1))


def parsed(content: bytes) -> "Node":
    """Return the content of a JSON text; errors as of `read_json`."""
    if len(content) > LARGEST:
        raise ValueError(f"larger than {LARGEST // 2**20} MiB")
    try:
        value = json.loads(
            content.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_without_twins
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("no UTF-8 text") from None
    return Node(value)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no finite number")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {_shown(twice)} is there twice")
    return found


@dataclass(frozen=True)
class Node:
    """A value in a JSON file, and where it stands.

    Attributes:
        value: As `json` gives it.
        place: For messages, such as `groups[0].parameters`.
    """

    value: Any
    place: str = ""

    def members(
        self, required: Collection[str], optional: Collection[str] = ()
    ) -> "dict[str, Node]":
        """Return the entries of an object whose keys are known.

        Raises:
            ValueError: For a key that is missing or unknown.
        """
        found = self.entries()
        missing = [name for name in required if name not in found]
        unknown = [name for name in found if name not in required and name not in optional]
        if unknown:
            raise self.wrong(f"unknown key {_shown(unknown[0])}")
        if missing:
            raise self.wrong(f"no {missing[0]}")
        return found

    def entries(self) -> "dict[str, Node]":
        """Return the entries of an object, whatever their keys."""
        if not isinstance(self.value, dict):
            raise self.wrong("no object")
        for name in self.value:
            Node(name, self.place).text()
        return {
            name: Node(value, f"{self.place}.{_plain(name)}" if self.place else _plain(name))
            for name, value in self.value.items()
        }

    def items(self) -> "Iterator[Node]":
        """Yield the entries of a list."""
        if not isinstance(self.value, list):
            raise self.wrong("no list")
        return (Node(value, f"{self.place}[{i}]") for i, value in enumerate(self.value))

    def text(self) -> str:
        """Return a text of one line."""
        if not isinstance(self.value, str):
            raise self.wrong("no text")
        if len(self.value) > LONGEST or not self.value.isprintable():
            raise self.wrong(f"{_shown(self.value)}: too long, or no text of one line")
        return self.value

    def number(self) -> float:
        """Return a finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.wrong("no number")
        try:
            value = float(self.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self.wrong("no finite number")
        return value

    def integer(self) -> int:
        """Return a whole number of 64 bits, with its sign."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.wrong("no whole number")
        if not -(2**63) <= self.value < 2**64:
            raise self.wrong("out of range")
        return self.value

    def count(self) -> int:
        """Return a whole number, 0 or more."""
        if self.integer() < 0:
            raise self.wrong("out of range")
        return self.value

    def flag_or_number(self) -> bool | float:
        """Return true, false or a finite number."""
        return self.value if isinstance(self.value, bool) else self.number()

    def texts(self) -> dict[str, str]:
        """Return an object of texts."""
        return {name: entry.text() for name, entry in self.entries().items()}

    def numbers(self) -> tuple[float, ...]:
        """Return a list of finite numbers."""
        return tuple(each.number() for each in self.items())

    def optional(self, read: "Callable[[Node], T]") -> T | None:
        """Return what `read` makes of it; None of null."""
        return None if self.value is None else read(self)

    def wrong(self, what: str) -> ValueError:
        """Return an error that says where it is."""
        return ValueError(f"{self.place}: {what}" if self.place else what)


def _plain(name: str) -> str:
    return name if len(name) <= SHOWN else name[:SHOWN] + "..."


def _shown(text: str) -> str:
    return repr(_plain(text))
