"""Real processes: started, waited for, looked at."""

import os
import subprocess
import time
from pathlib import Path

from places import ROOT

# A process is started where its files go: the checkout's own `outputs/` is none of its business.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def start(errors: Path, *arguments: str) -> subprocess.Popen:
    """Start a process whose stderr goes to the file `errors`."""
    with errors.open("w") as file:
        return subprocess.Popen(
            arguments,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=file,
            cwd=errors.parent,
        )


def the_run(outputs: Path) -> Path:
    (run,) = outputs.glob("*/*")
    return run


def wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists():
        assert process.poll() is None, f"ended with {process.returncode}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process goes on; one that only waits to be reaped does not."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
