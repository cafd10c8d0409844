"""A benchmark's folder: one CSV, and where its numbers come from."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from hypergrad.cli.malloc import keep_freed_memory
from hypergrad.curvature.low_precision import true_float32
from hypergrad.runs.provenance import provenance
from hypergrad.runs.run_log import CsvLog

__all__ = [
    "a_device",
    "apply_settings",
    "at_least",
    "device_name",
    "open_record",
    "write_provenance",
]


def at_least(low: int) -> Callable[[str], int]:
    """Return what reads an integer argument, and refuses one below a limit."""

    def read(text: str) -> int:
        if int(text) < low:
            raise argparse.ArgumentTypeError(f"{text}: must be at least {low}")
        return int(text)

    return read


def a_device(text: str) -> str:
    """Read a device that is there."""
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"{text} cannot be used: {reason}") from error
    return text


def apply_settings(given: argparse.Namespace) -> bool:
    """Set threads, allocator and precision of this process as the command line does.

    Args:
        given: `threads` and `keep_memory`.

    Returns:
        Whether freed memory is kept.
    """
    if given.threads:
        torch.set_num_threads(given.threads)
    true_float32()
    return given.keep_memory and keep_freed_memory()


def open_record(folder: Path, columns: Sequence[str], given: argparse.Namespace) -> CsvLog:
    """Begin a benchmark's record; one that is there already is replaced.

    Args:
        folder: Is made where it is missing.
        columns: Of `measured.csv`.
        given: `device`, and what `apply_settings` takes.

    Returns:
        The CSV, still empty.
    """
    kept = apply_settings(given)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "measured.csv"
    path.unlink(missing_ok=True)
    command = ["python -m benchmarks", *sys.argv[1:]]
    settings = {"threads": torch.get_num_threads(), "keeps_freed_memory": kept}
    write_provenance(folder, device_name(given.device), [0], command, **settings)
    return CsvLog(path, columns)


def write_provenance(
    folder: Path, device: str, seeds: Sequence[int], command: Sequence[str], **more: object
) -> None:
    """Write where numbers come from to `provenance.json`.

    Args:
        folder: Where.
        device: What they were measured on.
        seeds: Of what was measured.
        command: As it was typed.
        more: What else they depend on.
    """
    about = provenance(device, seeds, command) | more
    (folder / "provenance.json").write_text(json.dumps(about, indent=2) + "\n")


def device_name(device: str) -> str:
    """Return the device with the name of its hardware, where PyTorch knows it."""
    if torch.device(device).type != "cuda":
        return device
    return f"{device} ({torch.cuda.get_device_name(device)})"
