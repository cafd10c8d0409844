"""Tasks over machines: a real Ray cluster of two nodes, one of which is killed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import small
from commands import only_run
from places import ROOT, TESTS
from tiny import everything

from hypergrad.drivers.member_pool import Pool
from hypergrad.drivers.members import compose_member
from hypergrad.drivers.multirun import start_multirun
from hypergrad.parallel.pool import spread
from hypergrad.parallel.worker import Executor, WorkerLost
from hypergrad.runs.interrupt import Interrupt, Interrupted
from tests.parallel.test_pool import (
    PATIENCE,
    alive,
    begin,
    count_threads,
    never,
    refuse,
    sleep_for,
    square,
    stop_when_asked,
    wait_until,
)

EVERYWHERE = Executor("ray")


def test_executors_that_cannot_be() -> None:
    for name, gpus, text in [
        ("slurm", 0.0, "executor 'slurm': use local or ray"),
        ("local", 0.5, "use executor ray, or 0"),
        ("ray", 1.5, "give a share of one GPU, or whole ones"),
        ("ray", -1.0, "give a share of one GPU, or whole ones"),
    ]:
        with pytest.raises(ValueError, match=text):
            Executor(name, gpus=gpus)


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypergrad.parallel.worker.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[ray\]'"):
        Executor("ray")


@pytest.fixture(scope="module")
def nodes() -> Iterator[object]:
    """Two nodes of one CPU each, at RAY_ADDRESS."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        # Workers find this module and what it imports, and this tree.
        paths = map(str, (TESTS, ROOT))
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        head = {"num_cpus": 1, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            cluster.add_node(num_cpus=1)
            patch.setenv("RAY_ADDRESS", cluster.address)
            yield cluster
        finally:
            cluster.shutdown()


@pytest.mark.fault
def test_tasks_are_taken_one_by_one_and_done_once(nodes: object, tmp_path: Path) -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(12):
            assert len(taken) - len(list(tmp_path.glob("done-*"))) < 2
            taken.append(number)
            yield number

    pairs = list(spread(square, source(), EVERYWHERE, Interrupt(), begin, (tmp_path,)))
    assert sorted(pairs) == [(number, number**2) for number in range(12)]
    begun = [path.read_text().split("\n") for path in tmp_path.glob("begun-*")]
    assert 1 <= len(begun) <= 2  # one may be done with everything before the other has started
    assert all(texts == ["", ""] for texts in begun)
    assert list(spread(square, [], EVERYWHERE, Interrupt(), begin, (tmp_path,))) == []


@pytest.mark.fault
def test_errors_threads_and_requests(nodes: object, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="three"):
        list(spread(refuse, range(9), EVERYWHERE, Interrupt(), begin, (tmp_path,)))
    two = Executor("ray", jobs=2, threads=2)
    pairs = dict(spread(count_threads, range(2), two, Interrupt(), begin, (tmp_path,)))
    assert [threads for threads, _ in pairs.values()] == [2, 2]
    with pytest.raises(Interrupted):
        list(spread(sleep_for, [600], EVERYWHERE, Interrupt("SIGTERM"), begin, (tmp_path,)))
    shares = Executor("ray", gpus=0.5)
    with pytest.raises(ValueError, match=r"has a CPU and 0\.5 GPUs: see gpus"):
        list(spread(sleep_for, [600], shares, Interrupt(), begin, (tmp_path,)))


@pytest.mark.fault
def test_an_address_where_nobody_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(ValueError, match=r"RAY_ADDRESS=127\.0\.0\.1:9: .*unset it to use this"):
        list(spread(refuse, [1], EVERYWHERE, Interrupt(), begin, (tmp_path,)))


DRIVER = """
import sys
import threading
from pathlib import Path

import tests.parallel.test_pool as here
from hypergrad.runs.interrupt import Interrupted, catch_signals

with catch_signals() as interrupt:
    try:
        two, work = here.Executor("ray", jobs=2, grace=30), getattr(here, sys.argv[2])
        list(here.spread(work, range(4), two, interrupt, here.begin, (Path(sys.argv[1]),)))
    except Interrupted:
        pass
sys.exit(interrupt.exit_code)
"""


@pytest.mark.fault
@pytest.mark.parametrize(
    ("number", "code", "work"),
    [
        (signal.SIGINT, 130, stop_when_asked),
        (signal.SIGTERM, 143, stop_when_asked),
        (signal.SIGKILL, -9, never),
    ],
)
def test_workers_leave_with_their_driver_after_they_have_been_asked_to(
    nodes: object, tmp_path: Path, number: signal.Signals, code: int, work: Callable[[int], int]
) -> None:
    errors = tmp_path / "errors.txt"
    with errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(tmp_path), work.__name__],
            stderr=file,
            start_new_session=True,
        )
    try:
        wait_until(lambda: len(list(tmp_path.glob("busy-*"))) == 2)
        workers = [int(path.name.removeprefix("busy-")) for path in tmp_path.glob("busy-*")]
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        assert process.wait(PATIENCE) == code
        wait_until(lambda: not any(alive(pid) for pid in workers))
        assert len(list(tmp_path.glob("stopped-*"))) == (2 if work is stop_when_asked else 0)
    finally:
        process.kill()
        process.wait()
    assert errors.read_text() == ""


@pytest.mark.fault
def test_after_a_machine_is_killed_what_is_missing_can_be_done(
    nodes,  # noqa: ANN001 (of a library that may be missing)
    tmp_path: Path,
) -> None:
    doomed = nodes.add_node(num_cpus=1)
    found: dict[int, int] = {}
    missing = list(range(24))
    losses: list[str] = []
    while missing:
        try:
            for number, result in spread(
                half_a_second, missing, EVERYWHERE, Interrupt(), begin, (tmp_path,)
            ):
                assert number not in found
                found[number] = result
                if doomed is not None and len(list(tmp_path.glob("begun-*"))) == 3:
                    nodes.remove_node(doomed, allow_graceful=False)
                    doomed = None
        except WorkerLost as lost:
            losses.append(str(lost))
        missing = [number for number in range(24) if number not in found]
    assert doomed is None
    assert len(losses) == 1
    assert "a Ray worker died" in losses[0]
    assert found == {number: -number for number in range(24)}


def half_a_second(number: int) -> int:
    sleep_for(0.5)
    return -number


@pytest.mark.fault
def test_a_search_outlives_a_machine(
    nodes,  # noqa: ANN001 (of a library that may be missing)
    tmp_path: Path,
) -> None:
    given, text = small.setting("epochs=60")
    alone = small.new_run(given, text, tmp_path)
    small.lead(given, alone)
    doomed = nodes.add_node(num_cpus=1)
    given, text = small.setting("epochs=60", "executor=ray")
    run = small.new_run(given, text, tmp_path)

    def kill_a_machine() -> None:
        wait_until(lambda: len(list((run.path / "trials").glob("*.json"))) >= 2)
        nodes.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill_a_machine)
    killer.start()
    small.lead(given, run)
    killer.join()
    small.assert_same(run, alone)


@pytest.mark.fault
def test_members_of_a_run_over_machines(nodes: object, tmp_path: Path) -> None:
    found = {}
    for pool in (Pool(), Pool(executor="ray")):
        outputs = tmp_path / pool.executor
        typed = ["data=digits", "model=mlp", "scale=smoke", "outer.steps=1", f"outputs={outputs}"]
        assert start_multirun(compose_member("", "fig3", typed), [], pool) == 0
        run = only_run(outputs)
        found[pool.executor] = {path.name: everything(path) for path in run.glob("digits_*")}
        assert len(list(run.glob("*/log.txt"))) == (3 if pool.is_used else 0)
    assert found["ray"] == found["local"]
