"""The command that says what is damaged in a run directory, and what can be gone on with."""

from pathlib import Path

__all__ = ["tell"]

VERDICTS = ("sound", "damaged, and can be resumed", "cannot be resumed")


def tell(path: Path) -> int:
    """Print what was found, and a verdict.

    Args:
        path: Run directory.

    Returns:
        Exit code: 0 sound; 1 damaged, and it can be resumed; 2 it cannot.

    Raises:
        ValueError: If there is no such directory.
    """
    from hypergrad.drivers.doctor import examine

    findings = examine(path)
    for finding in findings:
        print(finding.text)
    worst = max(finding.severity for finding in findings)
    print(f"{path}: {VERDICTS[worst]}")
    return worst
