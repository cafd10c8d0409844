"""Runs that really run out of memory: `ulimit -v` a little above what the imports take."""

import subprocess
import sys
from pathlib import Path

import pytest
from processes import ENVIRONMENT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps to RLIMIT_AS"),
]

LIMITED = """
import resource, sys
import torch
from hypergrad.cli import main
pages = int(open("/proc/self/statm").read().split()[0])
most = pages * resource.getpagesize() + int(sys.argv.pop(1)) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
main()
"""
# 16.3 million weights, 65 MB: with momentum, before and after a step, and a product, 5 times that.
SMALL = ["run", "from_zero", "scale=smoke", "repeats=1", "threads=1", "model.options.hidden=4000"]


def run(folder: Path, megabytes: int, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", LIMITED, str(megabytes), *arguments, f"outputs={folder}"]
    return subprocess.run(
        command, env=ENVIRONMENT, cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            [f"hyperparameters.{name}.count=7" for name in ("learning_rate", "momentum")],
            [
                "forward mode keeps 4.89 GB of tangents for 15 values",
                "values would fit: take fewer windows",
                "use method.mode=reverse method.clip_products=null, whose states fit 1.3 GB",
                "hvp.strategy=loop",
            ],
        ),
        (
            ["method.mode=reverse", "method.clip_products=null", "reverse.memory_gb=5"],
            ["reverse.memory_gb=1.3 with reverse.keep_graphs=false"],
        ),
    ],
    ids=["forward", "reverse"],
)
def test_a_run_that_runs_out_says_in_a_line_what_would_fit(
    tmp_path: Path, overrides: list[str], said: list[str]
) -> None:
    left = run(tmp_path, 700, *SMALL, *overrides)
    assert left.returncode == 1, left.stderr
    line = left.stderr.splitlines()[-1]
    assert line.startswith("hypergrad: the run failed: out of memory on cpu (")
    assert [text for text in said if text not in line] == []
    assert "method.batch_size" in line
    assert "Traceback" not in left.stderr
    (summary,) = tmp_path.glob("*/*/summary.json")
    assert '"status": "failed"' in summary.read_text()


def test_a_network_that_does_not_fit_leaves_no_run_behind(tmp_path: Path) -> None:
    left = run(tmp_path, 300, *SMALL, "model.options.hidden=20000")
    assert left.returncode == 1
    (line,) = left.stderr.splitlines()
    assert line.startswith("hypergrad: out of memory on cpu (")
    assert "smaller batches (method.batch_size) or a smaller network" in line
    assert list(tmp_path.iterdir()) == []
