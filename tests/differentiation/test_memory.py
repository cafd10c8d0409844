"""Memory: forward mode's does not depend on the horizon, reverse mode's keeps to its budget."""

import gc
import os
import subprocess
import sys

import pytest
import torch
from places import ROOT, TESTS
from problems import digits_problem

from hypergrad.curvature import STRATEGIES, gradient_and_products

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")

SCRIPT = """
import sys
import torch
from problems import digits_problem
from hypergrad.differentiation.forward import hypergradients
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.core.gradient_transforms import ElementwiseClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd_schedules import sgd_schedule
torch.set_num_threads(1)
problem = digits_problem("mlp", batch_size=32, dtype=torch.float32)
schedule = sgd_schedule((0.1, 0.05, 0.02, 0.01, 0.01), (0.5,), (1e-4,))
hypergradients(problem.model, problem.theta, problem.batch_at, problem.validation, schedule,
               int(sys.argv[1]),
               ForwardOptions(clip_products=100.0, truncation=0.15, strategy=sys.argv[2]),
               optimizer=InnerOptimizer(transform=ElementwiseClip(3.0)))
lines = open("/proc/self/status").read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


REVERSE = """
import sys
import torch
from problems import digits_problem
from hypergrad.differentiation.reverse import ReverseOptions, hypergradients
from hypergrad.core.gradient_transforms import ElementwiseClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd_schedules import sgd_schedule
torch.set_num_threads(1)
problem = digits_problem("lenet", batch_size=4, dtype=torch.float32)
horizon = int(sys.argv[1])
hypergradients(problem.model, problem.theta, problem.batch_at, problem.validation,
               sgd_schedule((0.05,) * horizon, (), ()), horizon,
               ReverseOptions(memory_gb=float(sys.argv[2]), keep_graphs=sys.argv[3] == "graphs"),
               InnerOptimizer(transform=ElementwiseClip(3.0)))
lines = open("/proc/self/status").read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def peak(script: str, *arguments: float | str) -> int:
    """Peak resident memory in KiB of a process that does one inner run.

    From /proc: the kernel's `ru_maxrss` goes on from the process that started this one.
    """
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_products_leave_nothing_for_the_garbage_collector(strategy: str) -> None:
    # which looks rarely: what waits for it makes memory grow with the number of steps
    problem = digits_problem("mlp")
    batch = problem.batch_at(0)

    def step() -> None:
        Z = torch.ones(3, len(problem.theta), dtype=torch.float64)
        loss = problem.model.loss
        gradient_and_products(lambda theta: loss(theta, batch), problem.theta, Z, strategy)

    def tensors() -> int:
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    step()
    gc.collect()
    gc.disable()
    try:
        before = tensors()
        step()
        assert tensors() == before
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["vmap", "stacked"])
def test_twenty_times_the_steps_need_the_same_memory(strategy: str) -> None:
    assert peak(SCRIPT, 4000, strategy) <= 1.02 * peak(SCRIPT, 200, strategy)


@pytest.mark.slow
def test_checkpoints_keep_reverse_mode_within_its_budget() -> None:
    state = 2 * 44_426 * 4 / 1024  # KiB of weights and velocity
    short, long = 100, 900
    all_kept = peak(REVERSE, long, 2.0, "none") - peak(REVERSE, short, 2.0, "none")
    assert all_kept == pytest.approx((long - short) * state, rel=0.1)
    # 80 states at most
    sparse = peak(REVERSE, long, 0.03, "none") - peak(REVERSE, short, 0.03, "none")
    assert sparse <= 0.1 * all_kept


@pytest.mark.slow
def test_graphs_that_are_kept_stay_within_the_budget() -> None:
    none = peak(REVERSE, 300, 2.0, "none")
    some = peak(REVERSE, 300, 0.16, "graphs")  # 0.107 of it are states
    every = peak(REVERSE, 300, 2.0, "graphs")
    assert 20_000 < some - none < 80_000  # KiB
    assert every - none > 1.5 * (some - none)
