"""Tangents shared among real processes, against those of one."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from places import ROOT, TESTS
from problems import digits_problem
from processes import launcher
from ranked import CASES, SCHEDULE

from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.data import Images, Minibatches
from hypergrad.differentiation.active_tangents import active_tangents_at
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.parallel.ranks import Ranks
from hypergrad.training.differentiated_run import differentiated
from hypergrad.training.inner_problem import InnerProblem

# One address and port for each group of processes: --standalone takes a free one.


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(TESTS), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def find(folder: Path, *sizes: int) -> dict[int, dict]:
    """What `ranked.py` writes down on each number of ranks."""
    files = {size: folder / f"{size}.json" for size in sizes}
    running = [
        subprocess.Popen(
            [*launcher(size), str(TESTS / "ranked.py"), str(file)],
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for size, file in files.items()
    ]
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return {size: json.loads(file.read_text()) for size, file in files.items()}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict]:
    return find(tmp_path_factory.mktemp("ranks"), 1, 2)


@pytest.fixture(scope="module")
def found_by_four(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict]:
    return find(tmp_path_factory.mktemp("four"), 4)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_find_what_one_finds(found: dict, case: str) -> None:
    check_equal(case, found[2], found[1])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_so_do_four_of_which_some_have_nothing_to_multiply_for_a_while(
    found: dict, found_by_four: dict, case: str
) -> None:
    check_equal(case, found_by_four[4], found[1])


def check_equal(case: str, several: dict, one: dict) -> None:
    ours, alone = several[case], one[case]
    if case.split()[1] in ("loop", "fused"):  # a column at a time: the same operations
        assert ours == alone
    # The others batch their columns, which rounds by 1e-16 or so differently in another number.
    np.testing.assert_allclose(ours["values"], alone["values"], rtol=1e-10, atol=0)
    np.testing.assert_allclose(ours["theta"], alone["theta"], rtol=1e-10, atol=1e-14)
    ours, alone = (
        np.array(each["diagnostics"], dtype=float) for each in (ours, alone)
    )  # None is NaN
    np.testing.assert_allclose(ours, alone, rtol=1e-8)  # a spread loses digits


def test_a_schedule_learned_by_two_processes_is_that_of_one(found: dict) -> None:
    assert found[2]["history"] == found[1]["history"]
    assert len(found[1]["history"]) == 3


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_shares_are_disjoint_whole_and_plan_what_one_process_plans(size: int) -> None:
    count, horizon = len(SCHEDULE.flat), 12
    bound = InnerOptimizer().bind(digits_problem("mlp", hidden=8).model, SCHEDULE)
    everyone = [Ranks(rank, size) for rank in range(size)]
    shares = [ranks.share(count) for ranks in everyone]
    assert sorted(row for share in shares for row in share) == list(range(count))
    whole = (False,) * count
    own = [(False,) * len(share) for share in shares]
    for step in range(horizon):
        plan = active_tangents_at(bound, SCHEDULE, step, horizon, 0.34, whole)
        whole = plan.reached
        for rank, share in enumerate(shares):
            mine = active_tangents_at(bound, SCHEDULE, step, horizon, 0.34, own[rank], share)
            own[rank] = mine.reached
            assert mine.reached == tuple(plan.reached[row] for row in share)
            for name in ("moving", "live"):
                rows = {share[row] for row in getattr(mine, name)}
                assert rows == set(getattr(plan, name)) & set(share)
            direct = [
                (each._replace(row=share[each.row]), weight)
                for each, weight in zip(mine.direct, mine.weights, strict=True)
            ]
            everyones = zip(plan.direct, plan.weights, strict=True)
            assert direct == [pair for pair in everyones if pair[0].row in share]


def test_reverse_mode_refuses_ranks() -> None:
    problem = digits_problem("mlp", hidden=8)
    minibatches = Minibatches(Images(problem.images, problem.labels), 32, (0,))
    inner = InnerProblem.over_epochs(problem.model, problem.theta, minibatches, 1)
    given = inner, SCHEDULE, ReverseOptions()
    with pytest.raises(ValueError, match="2 ranks: reverse mode has nothing to share"):
        differentiated(*given, ranks=Ranks(0, 2))
    assert differentiated(*given).horizon == minibatches.steps_per_epoch
