"""Tangents shared among real processes, against those of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ranked import CASES

HERE = Path(__file__).parent
# One address and port for each group of processes: --standalone takes a free one.
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def torchrun(size: int, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*TORCHRUN, str(size), *arguments],
        env=environment(),
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict]:
    folder, results = tmp_path_factory.mktemp("ranks"), {}
    for size in (1, 2, 4):
        done = torchrun(size, str(HERE / "ranked.py"), str(folder / f"{size}.json"))
        assert done.returncode == 0, done.stderr
        results[size] = json.loads((folder / f"{size}.json").read_text())
    return results


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_several_processes_find_what_one_finds(found: dict, size: int, case: str) -> None:
    ours, alone = found[size][case], found[1][case]
    if case.split()[1] in ("loop", "fused"):  # a column at a time: the same operations
        assert ours == alone
    # The others batch their columns, which rounds by 1e-16 or so differently in another number.
    np.testing.assert_allclose(ours["values"], alone["values"], rtol=1e-10, atol=0)
    np.testing.assert_allclose(ours["theta"], alone["theta"], rtol=1e-10, atol=1e-14)
    ours, alone = (np.array(each["trust"], dtype=float) for each in (ours, alone))  # None is NaN
    np.testing.assert_allclose(ours, alone, rtol=1e-8)  # a spread loses digits
