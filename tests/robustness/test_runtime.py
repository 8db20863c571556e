"""What the command sets for its own process."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
from dualcam.cli.runtime import tune_process

tune_process()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    first = b"x" * (80 << 20)
    second = b"x" * (90 << 20)
    del first, second
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_of_the_second_round(**given: str) -> int:
    """Return how many new pages a process gets for 170 MB that it had before, and freed."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env={**usual, **given}, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="freed memory is kept by glibc's settings")
def test_freed_memory_is_kept() -> None:
    """Also of blocks of a large batch's size; else layers wait for new pages as long as for the arithmetic."""
    assert pages_of_the_second_round() < 40  # in huge pages 170 MB are 85
    assert pages_of_the_second_round(MALLOC_MMAP_THRESHOLD_="131072") > 40  # what the user has set stays
