"""Tasks over processes: real workers, some of them killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from places import ROOT, TESTS

from hypergrad.parallel.pool import spread
from hypergrad.parallel.worker import Executor, WorkerLost
from hypergrad.runs.interrupt import Interrupt, Interrupted, catch_signals

TWO = Executor(jobs=2)
PATIENCE = 60  # seconds, far above what anything here takes on a busy machine


# What workers do: functions of a module, so that they can find them.

_folder: Path


def begin(folder: Path, text: str = "") -> None:
    global _folder
    _folder = folder
    with (folder / f"begun-{os.getpid()}").open("a") as file:
        file.write(f"{text}\n")


def square(number: int) -> int:
    time.sleep(0.02 * (number % 3))
    (_folder / f"done-{number}").touch()
    return number * number


def count_threads(number: int) -> tuple[int, str]:
    import torch  # here, because the other workers start faster without it

    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


def refuse(number: int) -> int:
    if number == 3:
        raise KeyError("three")
    return number


def refuse_to_begin() -> None:
    raise KeyError("begin")


def die_once(number: int) -> int:
    time.sleep(0.05)
    if number == 5 and not (_folder / "died").exists():
        (_folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def never(number: int) -> int:
    (_folder / f"busy-{os.getpid()}").touch()
    time.sleep(600)
    return number


def stop_when_asked(number: int) -> int:
    with catch_signals() as interrupt:
        (_folder / f"busy-{os.getpid()}").touch()
        while not interrupt.requested:
            time.sleep(0.01)
        time.sleep(0.5)  # a checkpoint takes its time
        (_folder / f"stopped-{os.getpid()}").touch()
    return number


def test_every_result_comes_once(tmp_path: Path) -> None:
    pairs = list(spread(square, range(20), TWO, Interrupt(), begin, (tmp_path,)))
    assert len(pairs) == 20
    assert dict(pairs) == {number: number**2 for number in range(20)}


def test_a_task_is_taken_when_a_worker_is_free_for_it(tmp_path: Path) -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(12):
            assert len(taken) - len(list(tmp_path.glob("done-*"))) < TWO.jobs
            taken.append(number)
            yield number

    assert len(list(spread(square, source(), TWO, Interrupt(), begin, (tmp_path,)))) == 12
    assert taken == list(range(12))


def test_one_worker_is_a_process_too(tmp_path: Path) -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(3):
            assert len(taken) == len(list(tmp_path.glob("done-*")))
            taken.append(number)
            yield number

    pairs = spread(square, source(), Executor(jobs=1), Interrupt(), begin, (tmp_path,))
    assert dict(pairs) == {0: 0, 1: 1, 2: 4}
    begun = [int(path.name.removeprefix("begun-")) for path in tmp_path.glob("begun-*")]
    assert len(begun) == 1
    assert begun != [os.getpid()]


def test_a_process_begins_once_and_again_for_new_arguments(tmp_path: Path) -> None:
    for text in ("one", "one", "two"):
        list(spread(square, range(8), TWO, Interrupt(), begin, (tmp_path, text)))
    begun = [path.read_text().split() for path in tmp_path.glob("begun-*")]
    assert 1 <= len(begun) <= 2
    assert all(texts in (["one"], ["two"], ["one", "two"]) for texts in begun)


def test_workers_compute_with_the_threads_they_are_given(tmp_path: Path) -> None:
    executor = Executor(jobs=2, threads=3)
    pairs = spread(count_threads, range(2), executor, Interrupt(), begin, (tmp_path,))
    assert dict(pairs) == {0: (3, "3"), 1: (3, "3")}


def test_errors_come_as_themselves_and_the_next_call_works(tmp_path: Path) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyError("source")

    for results, text in [
        (spread(refuse, range(9), TWO, Interrupt(), begin, (tmp_path,)), "three"),
        (spread(refuse, range(9), TWO, Interrupt(), refuse_to_begin), "begin"),
        (spread(refuse, source(), TWO, Interrupt(), begin, (tmp_path,)), "source"),
    ]:
        with pytest.raises(KeyError, match=text):
            list(results)
    pairs = spread(refuse, [1, 2], TWO, Interrupt(), begin, (tmp_path,))
    assert dict(pairs) == {1: 1, 2: 2}


def test_a_request_drops_what_is_in_flight(tmp_path: Path) -> None:
    began = time.monotonic()
    results = spread(never, range(4), TWO, Interrupt("SIGINT"), begin, (tmp_path,))
    with pytest.raises(Interrupted):
        next(results)
    assert time.monotonic() - began < PATIENCE


def test_who_stops_listening_leaves_no_worker_at_work(tmp_path: Path) -> None:
    results = spread(sleep_for, [0, 600, 600], TWO, Interrupt(), begin, (tmp_path,))
    assert next(results) == (0, 0)
    workers = [int(path.name.removeprefix("begun-")) for path in tmp_path.glob("begun-*")]
    results.close()
    wait_until_gone(workers)


def sleep_for(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.mark.fault
def test_after_a_worker_is_killed_what_is_missing_can_be_done(tmp_path: Path) -> None:
    found: dict[int, int] = {}
    missing = list(range(12))
    losses: list[str] = []
    while missing:
        try:
            for number, result in spread(die_once, missing, TWO, Interrupt(), begin, (tmp_path,)):
                assert number not in found
                found[number] = result
        except WorkerLost as lost:
            losses.append(str(lost))
        missing = [number for number in range(12) if number not in found]
    assert losses == ["a worker process died: killed, or out of memory"]
    assert found == {number: number for number in range(12)}


DRIVER = """
import sys
from pathlib import Path

import tests.parallel.test_pool as here
from hypergrad.runs.interrupt import Interrupted, catch_signals

executor, work = here.Executor(jobs=2, grace=float(sys.argv[2])), getattr(here, sys.argv[3])
with catch_signals() as interrupt:
    try:
        arguments = (Path(sys.argv[1]),)
        list(here.spread(work, range(4), executor, interrupt, here.begin, arguments))
    except Interrupted:
        pass
sys.exit(interrupt.exit_code)
"""


@pytest.mark.fault
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
@pytest.mark.parametrize("work", [never, stop_when_asked])
def test_workers_leave_with_their_driver_and_come_to_an_end_first_if_they_may(
    tmp_path: Path, number: signal.Signals, code: int, work: Callable[[int], int]
) -> None:
    patient = work is stop_when_asked
    errors = tmp_path / "errors.txt"
    with errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(tmp_path), "20" if patient else "0", work.__name__],
            env={**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}"},
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
        wait_until_gone(workers)
        assert len(list(tmp_path.glob("stopped-*"))) == (2 if patient else 0)
    finally:
        process.kill()
        process.wait()
    if number != signal.SIGKILL:
        assert errors.read_text() == ""


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def wait_until_gone(workers: list[int]) -> None:
    assert workers
    wait_until(lambda: not any(alive(pid) for pid in workers))


def alive(pid: int) -> bool:
    """Whether a process goes on; one that only waits to be reaped does not."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
