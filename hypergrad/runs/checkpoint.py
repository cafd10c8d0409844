"""Checkpoints in safetensors and JSON that survive a kill or damage at any moment."""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from hypergrad.runs.atomic import remove_leftovers, write_bytes_atomically, write_text_atomically

__all__ = ["CUT_OFF", "Checkpoint", "CheckpointStore"]

CUT_OFF = "it is missing (its save was cut off)"  # what any kill may leave: no damage

_FORMAT = 1
# What reading a damaged one raises; of safetensors, whose errors are no ValueErrors, too.
DAMAGE = (ValueError, TypeError, KeyError, OSError, safetensors.SafetensorError)
_NAME = re.compile(r"(\d{8,})\.(safetensors|json)")


class Checkpoint(NamedTuple):
    """What was saved.

    Attributes:
        tensors: By name, in the order in which they were saved, on the CPU.
        state: As JSON brings it back: tuples are lists.
    """

    tensors: dict[str, Tensor]
    state: dict


class CheckpointStore:
    """The latest checkpoints of one run; the process that uses it must hold the run.

    A checkpoint is `<n>.safetensors` and `<n>.json`. The JSON is written last and carries the
    checksum of both, so a checkpoint without it was never finished.

    Attributes:
        folder: Where they are.
        skipped: What the last `load` passed over, and why; for the caller to report.
        older_by: Seconds from the checkpoint that it returned to the newest that it passed over.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        """Name the folder; it is made at the first `save`.

        Args:
            folder: Folder for the checkpoints and nothing else.
            keep: How many checkpoints to keep, at least 1; with 2 or more, damage to the newest
                costs only the time since the one before.

        Raises:
            ValueError: If `keep` is less than 1.
        """
        if keep < 1:
            raise ValueError(f"keep={keep} checkpoints leaves nothing to resume from; use 2")
        self.folder = Path(folder)
        self.keep = keep
        self.skipped: list[str] = []
        self.older_by = 0.0
        self._damaged: set[int] = set()

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> Path:
        """Write a checkpoint, then delete the older ones beyond `keep`.

        Args:
            tensors: Of any dtype, shape and device.
            state: What `json` can write, with strings as keys; NaN and infinities are allowed.

        Returns:
            The JSON file of the new checkpoint, which is on the disk now.

        Raises:
            TypeError: If `json` cannot write `state`; nothing is written then.
        """
        # A copy of each, because safetensors refuses tensors that share memory.
        copies = {
            name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        data = safetensors.torch.save(copies)
        body = {
            "format": _FORMAT,
            "tensors": {"names": list(copies), "bytes": len(data), "sha256": _sha256(data)},
            "state": dict(state),
        }
        document = json.dumps({"sha256": _body_sha256(body), "body": body}) + "\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)  # first, so that kills in a row cannot fill the disk
        number = max(self._numbers("json"), default=0) + 1
        write_bytes_atomically(self._path(number, "safetensors"), data)
        path = self._path(number, "json")
        write_text_atomically(path, document)
        self._clean(number)
        return path

    def load(self, check: Callable[[Checkpoint], None] | None = None) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, or None if none was ever finished.

        Args:
            check: Raises a ValueError for one that is whole and cannot be gone on from; it is
                passed over as a damaged one is.

        Raises:
            ValueError: If there are checkpoints and all of them are damaged.
        """
        self.skipped, self.older_by = [], 0.0
        self._damaged, reasons = set(), []
        numbers = self._numbers("json") | self._numbers("safetensors")
        for number in sorted(numbers, reverse=True):
            try:
                found = self._read(number)
                if check is not None:
                    check(found)
            except DAMAGE as error:
                reasons.append(f"{self._path(number, 'json').name}: {_said(error)}")
                self.skipped.append(f"{self._path(number, 'json')}: {_said(error)}")
                self._damaged.add(number)
            else:
                if self._damaged:
                    self.older_by = self._time(max(self._damaged)) - self._time(number)
                return found
        if not numbers - {1} and not self._numbers("json"):
            return None  # killed within the very first save, or before it
        raise ValueError(
            f"every checkpoint in {self.folder} is damaged ({'; '.join(reasons)}); "
            "restore one from a backup, or start a new run"
        )

    def _read(self, number: int) -> Checkpoint:
        """Read and verify one checkpoint; a ValueError or OSError says what is wrong with it."""
        path = self._path(number, "json")
        if not path.exists():
            raise ValueError(CUT_OFF)
        document = _parse(path.read_bytes())
        body = document.get("body")
        if not isinstance(body, dict) or document.get("sha256") != _body_sha256(body):
            raise ValueError("its checksum does not match its content")
        if body["format"] != _FORMAT:
            raise ValueError(
                f"it has format {body['format']} and this version reads {_FORMAT}; "
                "use the version of hypergrad that wrote it"
            )
        partner = self._path(number, "safetensors")
        if not partner.exists():
            raise ValueError(f"{partner.name} is missing")
        data = partner.read_bytes()
        if _sha256(data) != body["tensors"]["sha256"]:
            raise ValueError(
                f"{partner.name} ({len(data)} bytes, {body['tensors']['bytes']} expected) "
                "does not match its checksum"
            )
        loaded = safetensors.torch.load(data)
        # Copied into torch's own aligned memory: the rounding of a matrix product may depend on
        # the alignment, and a resumed run must go on bit for bit.
        tensors = {name: loaded.pop(name).clone() for name in body["tensors"]["names"]}
        return Checkpoint(tensors, body["state"])

    def _time(self, number: int) -> float:
        """When a checkpoint was written, as far as its files tell."""
        paths = [self._path(number, ending) for ending in ("json", "safetensors")]
        return max(path.stat().st_mtime for path in paths if path.exists())

    def _clean(self, newest: int) -> None:
        """Delete what is beyond `keep`, what was cut off, and what `load` found damaged."""
        documents = self._numbers("json")
        files = self._numbers("safetensors")
        whole = sorted((documents & files) - (self._damaged - {newest}), reverse=True)
        for number in (documents | files) - set(whole[: self.keep]):
            # The JSON first: without it the rest is no checkpoint.
            for ending in ("json", "safetensors"):
                with contextlib.suppress(FileNotFoundError):
                    self._path(number, ending).unlink()
        self._damaged = set()

    def _path(self, number: int, ending: str) -> Path:
        return self.folder / f"{number:08d}.{ending}"

    def _numbers(self, ending: str) -> set[int]:
        if not self.folder.is_dir():
            return set()
        matches = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return {int(match[1]) for match in matches if match and match[2] == ending}


def _parse(data: bytes) -> dict:
    try:
        document = json.loads(data)
    except ValueError:
        raise ValueError("it is not valid JSON") from None
    return document if isinstance(document, dict) else {}


def _said(error: Exception) -> str:
    """What an error says; of those that Python itself raises, with their kind."""
    return str(error) if type(error) in (ValueError, OSError) else repr(error)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _body_sha256(body: Mapping[str, object]) -> str:
    """Checksum of the body as `json` writes it, which a round trip leaves as it is."""
    return _sha256(json.dumps(body).encode("utf-8"))
