"""Numbers of threads and processes that no machine has a use for."""

import pytest

from hypergrad.config.checks import ConfigError
from hypergrad.config.composition import compose
from hypergrad.config.machine import check_machine, cores


@pytest.mark.parametrize("key", ["threads", "jobs"])
def test_absurd_numbers_are_refused_before_anything_runs(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}=1000000: this machine has {cores()} cores"):
        compose("baselines/digits", [f"{key}=1000000"])


def test_threads_of_all_processes_together_are_bounded() -> None:
    most = 8 * cores()
    both = rf"threads={most} with jobs=2: {2 * most} threads; this machine has {cores()} cores"
    with pytest.raises(ConfigError, match=both):
        compose("baselines/digits", [f"threads={most}", "jobs=2"])
    with pytest.raises(ConfigError, match=rf"threads=2 with jobs={most}"):
        compose("fig3", ["threads=2", f"jobs={most}"])
    compose("baselines/digits", [f"threads={most // 2}", "jobs=2"])
    check_machine("auto", most)
    check_machine("2", 1_000_000, "ray")  # on other machines
    with pytest.raises(ConfigError, match="threads=1000000: "):
        check_machine("1000000", 1, "ray")
