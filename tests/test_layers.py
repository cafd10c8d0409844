"""The contract of who may import whom: it holds, and an arrow up breaks it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts in a folder's pyproject.toml on the package beside it."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


def test_the_contract_holds() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("core/schedule.py", "import hypergrad.figures"),
        ("training/inner_run.py", "import hypergrad.config.schema"),
        # Inside a function, where an import hides.
        (
            "figures/style.py",
            "def peek() -> None:\n    from hypergrad.config import schema  # noqa",
        ),
        ("drivers/execute.py", "import hypergrad.cli.app"),
        ("models/lenet.py", "import hypergrad.data"),
    ],
)
def test_an_arrow_that_does_not_go_down_breaks_it(tmp_path: Path, module: str, line: str) -> None:
    shutil.copytree(ROOT / "hypergrad", tmp_path / "hypergrad")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "hypergrad" / module
    path.write_text(path.read_text() + f"\n\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1
    assert "1 broken" in done.stdout or "2 broken" in done.stdout
