import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from hypergrad.runs.interrupt import Interrupt, Interrupted, catch_signals


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Every signal is heard, whatever started this process: `nohup` and `&` ignore some."""
    names = [name for name in CODES if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), signal.SIG_DFL) for name in names}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGUSR1": 138}
HERE = [name for name in CODES if hasattr(signal, name)]  # Windows has neither of the last two


@pytest.mark.parametrize("name", HERE)
def test_signal_is_noted_and_handlers_are_restored(name: str) -> None:
    before = [signal.getsignal(getattr(signal, each)) for each in HERE]
    with catch_signals() as interrupt:
        assert interrupt.requested is None
        assert interrupt.exit_code == 0
        os.kill(os.getpid(), signal.Signals[name])
        assert interrupt.requested == name
        assert interrupt.exit_code == CODES[name]
    after = [signal.getsignal(getattr(signal, each)) for each in HERE]
    assert after == before


def test_second_sigint_raises_at_once_and_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGINT)

    def press_twice() -> None:
        with catch_signals() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupt.requested == "SIGINT"
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        press_twice()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_block_within_a_block_hears_of_the_same_request() -> None:
    with catch_signals() as outer:
        os.kill(os.getpid(), signal.SIGTERM)
        with catch_signals() as inner:
            assert inner is outer
            assert inner.requested == "SIGTERM"
    with catch_signals() as later:
        assert later.requested is None


def test_the_first_request_counts() -> None:
    with catch_signals() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested == "SIGTERM"
        assert interrupt.exit_code == 143


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_under_nohup_the_end_of_a_session_is_no_request() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_signals() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupt.requested is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("name", HERE)
def test_at_once_a_request_raises_where_it_arrives(name: str) -> None:
    with catch_signals() as interrupt:
        with pytest.raises(Interrupted, match=name), interrupt.at_once():
            os.kill(os.getpid(), signal.Signals[name])
        assert interrupt.requested == name
        with pytest.raises(Interrupted, match=name), interrupt.at_once():
            pytest.fail("a request that was made before must raise before the block")
        os.kill(os.getpid(), signal.SIGTERM)  # only noted: the first request has been answered


def test_at_once_ends_with_its_block() -> None:
    with catch_signals() as interrupt:
        with interrupt.at_once():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.requested == "SIGTERM"


def test_outside_the_main_thread_nothing_is_caught() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[Interrupt] = []

    def work() -> None:
        with catch_signals() as interrupt:
            assert signal.getsignal(signal.SIGTERM) is before
            seen.append(interrupt)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [Interrupt(requested=None)]


def test_a_process_can_leave_with_the_exit_code() -> None:
    script = (
        "import sys, time\n"
        "from hypergrad.runs.interrupt import catch_signals\n"
        "with catch_signals() as interrupt:\n"
        "    print('ready', flush=True)\n"
        "    while interrupt.requested is None:\n"
        "        time.sleep(0.01)\n"
        "sys.exit(interrupt.exit_code)\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
