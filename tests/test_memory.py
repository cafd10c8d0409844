"""Memory does not depend on the horizon."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import resource, sys
import torch
from problems import digits_problem
from hypergrad.forward import ForwardOptions, hypergradients
from hypergrad.schedule import Schedule
torch.set_num_threads(1)
problem = digits_problem("mlp", batch_size=32, dtype=torch.float32)
schedule = Schedule((0.1, 0.05, 0.02, 0.01, 0.01), (0.5,), (1e-4,))
hypergradients(problem.model, problem.theta, problem.batch_at, problem.validation, schedule,
               int(sys.argv[1]), ForwardOptions(3.0, 100.0, 0.15, "vmap"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(horizon: int) -> int:
    """Peak resident memory in KiB of a process that does one inner run."""
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(horizon)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.slow
def test_twenty_times_the_steps_need_the_same_memory() -> None:
    assert peak(4000) <= 1.05 * peak(200)
