"""What a process of our own may set for itself before PyTorch loads."""

import os

from dualcam.allocation import keep_freed_memory


def tune_process() -> None:
    """Let idle threads sleep, and keep freed memory for the next batch.

    OpenMP threads that spin while they wait make a busy machine many times slower. What the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
