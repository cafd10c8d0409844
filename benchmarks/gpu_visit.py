"""`python -m benchmarks.gpu_visit`: an unattended visit to a GPU, in steps of a few minutes.

Correctness, the speed of an inner step with and without recorded graphs, Figure 1 at paper scale,
and the CIFAR-10 grid. Every call does what it can in its minutes and goes on where the last one
stopped; what is done stands in `visit.json` of the output folder, which can be carried to and fro,
also as one archive. Nothing is installed: wheels go into a folder for as long as the call lasts.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.visit_steps import HYPERGRAD, VisitStep, steps

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]
GRACE = 20.0  # seconds that a run has to write its checkpoint
TRIES = 2  # of a step that took longer than it was allowed


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what can be done in the time given.

    Args:
        arguments: As of the command line; None takes those.

    Returns:
        Exit code: 0, whatever came out; the state file tells.
    """
    given = _parse(arguments)
    until = time.monotonic() + 60 * given.minutes
    output = given.output.resolve()
    plan = steps(given.device, given.scale, output, given.data, given.cifar10)
    if given.only:
        plan = [step for step in plan if step.name in given.only]
    if given.dry_run:
        for step in plan:
            how = "resumed" if step.experiment else "at most"
            print(f"{step.name} ({how}, {step.seconds:g} s): {shlex.join(step.command)}")
        return 0
    if given.pack and given.pack.is_file() and not output.exists():
        with tarfile.open(given.pack) as archive:
            archive.extractall(output, filter="data")
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as site:
        if given.wheels:
            _unpack_wheels(given.wheels, site)
        paths = [str(ROOT), site, os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        for step in plan:
            _do(step, output, until, environment)
    _report(plan, _read(output))
    if given.pack:
        given.pack.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(given.pack, "w:gz") as archive:
            archive.add(output, arcname=".")
    return 0


def _do(step: VisitStep, output: Path, until: float, environment: dict[str, str]) -> None:
    """Do a step if it is not done and there is time for it, and note what came of it."""
    state = _read(output)
    before = state.get(step.name, {})
    left = until - time.monotonic() - (GRACE if step.experiment else 0.0)
    over = before.get("status") == "too long" and before["tries"] >= TRIES
    if before.get("status") in ("done", "failed") or over or left < step.seconds:
        return
    command = _resumed(step, output) or step.command
    print(f"{step.name}: {shlex.join(command)}", flush=True)
    (output / "logs").mkdir(exist_ok=True)
    began = time.monotonic()
    with (output / "logs" / f"{step.name}.log").open("a") as log:
        log.write(f"$ {shlex.join(command)}\n")
        log.flush()
        stopped, code = _run(command, left if step.experiment else step.seconds, log, environment)
    status = "done" if code == 0 else "failed"
    if stopped:
        status = "to go on" if step.experiment else "too long"
    state[step.name] = {
        "status": status,
        "code": code,
        "tries": before.get("tries", 0) + 1,
        "seconds": round(before.get("seconds", 0.0) + time.monotonic() - began, 1),
        "command": list(step.command),
    }
    partial = output / "visit.json.partial"
    partial.write_text(json.dumps(state, indent=2) + "\n")
    partial.replace(output / "visit.json")
    print(f"{step.name}: {status} ({state[step.name]['seconds']} s)", flush=True)


def _run(
    command: Sequence[str], seconds: float, log: object, environment: dict[str, str]
) -> tuple[bool, int]:
    """Run a command; interrupt it when its time is over, as Ctrl-C would.

    Returns:
        Whether it was stopped, and its exit code.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,  # type: ignore[call-overload]
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        try:
            return False, process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=GRACE)
            return code != 0, code  # it may just have come to its end
    except subprocess.TimeoutExpired:
        return True, -signal.SIGKILL
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _resumed(step: VisitStep, output: Path) -> tuple[str, ...] | None:
    """The command that goes on with a step; None where there is nothing to go on with."""
    if step.experiment is None:
        return None
    folder = output / "runs" / step.experiment
    begun = sorted(path.parent for path in folder.glob("*/summary.json"))
    return (*HYPERGRAD, "run", "--resume", str(begun[-1])) if begun else None


def _unpack_wheels(wheels: Path, site: str) -> None:
    files = [str(path) for path in sorted(wheels.glob("*.whl"))]
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
    subprocess.run([*pip, "--target", site, *files], check=True)


def _read(output: Path) -> dict[str, dict]:
    path = output / "visit.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _report(plan: Sequence[VisitStep], state: dict[str, dict]) -> None:
    remaining = 0
    for step in plan:
        status = state.get(step.name, {}).get("status", "not begun")
        remaining += status not in ("done", "failed")
        print(f"{step.name:<20} {status}")
    print("nothing remains" if not remaining else f"{remaining} of {len(plan)} remain: call again")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu_visit", description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="folder of everything that comes out")
    add("--minutes", type=float, default=9.0, help="how long this call may take")
    add("--device", default="cuda")
    add("--scale", default="full", choices=["full", "smoke"])
    add("--data", type=Path, help="data root with MNIST; default: the library's own")
    add("--cifar10", type=Path, help="CIFAR-10 as {train,test}/<class>/<image>")
    add("--wheels", type=Path, help="folder of wheels of packages that are missing")
    add("--pack", type=Path, help="archive of the output folder: read if that is missing, written")
    add("--only", nargs="+", help="names of steps")
    add("--dry-run", action="store_true", help="print the plan")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
