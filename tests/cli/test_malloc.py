"""Keeping freed memory, in processes of their own: how often the system had to give it again."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")

FAULTS = """
import resource
bytearray(64 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytearray(64 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
KEEP = "from hypergrad.cli.malloc import keep_freed_memory\nprint(keep_freed_memory())\n"
CHILD = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {FAULTS!r}])\n"


def lines(script: str, **variables: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("where", [FAULTS, CHILD], ids=["here", "in a process started later"])
def test_freed_memory_is_used_again(where: str) -> None:
    (ordinary,) = lines(where)
    done, kept = sorted(lines(KEEP + where), key=str.isdigit)
    assert done == "True"
    assert 10 * int(kept) < int(ordinary)


def test_what_the_environment_says_is_left_alone() -> None:
    given = "glibc.malloc.check=0"
    script = KEEP + "import os\nprint(os.environ['GLIBC_TUNABLES'])"
    assert lines(script, GLIBC_TUNABLES=given) == ["False", given]


@pytest.mark.parametrize(("switch", "expected"), [("1", "True"), ("0", "False")])
def test_the_command_line_does_it_and_can_be_told_not_to(switch: str, expected: str) -> None:
    script = (
        "import os, sys\nfrom hypergrad.cli import main\nsys.argv = ['hypergrad', '--version']\n"
        "try:\n    main()\nexcept SystemExit:\n    print('GLIBC_TUNABLES' in os.environ)"
    )
    assert lines(script, HYPERGRAD_KEEP_MEMORY=switch)[-1] == expected
    assert lines("import os, hypergrad; print('GLIBC_TUNABLES' in os.environ)") == ["False"]
