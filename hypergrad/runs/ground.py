"""What the results of a run depend on, written down when it begins, compared when it goes on."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.records import checksum, read_record, write_record

__all__ = ["GROUND_FILE", "Ground", "fixed_digest", "kept_ground", "put_down"]

GROUND_FILE = "ground.json"
SHOWN = 60  # characters of a value


class Ground(NamedTuple):
    """What results depend on; of values that fit JSON.

    Attributes:
        fixed: What makes other results: settings by dotted key, data, network, device.
        rounding: What may change their last bits alone: threads, versions.
    """

    fixed: Mapping[str, object]
    rounding: Mapping[str, object]

    @property
    def digests(self) -> dict[str, str]:
        """A name for each, which checkpoints carry."""
        return {name: checksum(content) for name, content in self._asdict().items()}

    def changes(self, now: "Ground") -> tuple[list[str], list[str]]:
        """Return what has changed in lines: of what is fixed, and of what rounds otherwise.

        Args:
            now: What it would go on with.
        """
        fixed, rounding = (
            [
                f"{key}: {_shown(then.get(key))} when it began, {_shown(found.get(key))} now"
                for key in sorted({*then, *found})
                if then.get(key) != found.get(key)
            ]
            for then, found in zip(self, now, strict=True)
        )
        return fixed, rounding


def kept_ground(run: RunDirectory) -> Ground | None:
    """Return what a run stands on; None if that is not written down.

    Raises:
        ValueError: If the file is damaged.
    """
    path = run.path / GROUND_FILE
    try:
        record = read_record(path)
        return Ground(record["fixed"], record["rounding"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error})") from error


def fixed_digest(run: RunDirectory) -> str | None:
    """Return the name of what is fixed of a run, which its records carry; None if it is unknown."""
    found = kept_ground(run)
    return None if found is None else found.digests["fixed"]


def put_down(run: RunDirectory, ground: Ground, accepted: Sequence[str] = ()) -> None:
    """Write down what a run stands on.

    Args:
        run: The run, held by this process.
        ground: All of it.
        accepted: What has changed since, and was accepted; kept with what was before.
    """
    path = run.path / GROUND_FILE
    before = read_record(path).get("accepted", []) if accepted and path.exists() else []
    now = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "changes": list(accepted)}
    log = [*before, now] if accepted else before
    write_record(path, {**ground._asdict(), "accepted": log})


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
