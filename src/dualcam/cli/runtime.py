"""What a process of our own may set for itself before PyTorch loads."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def tune_process() -> None:
    """Let idle threads sleep, and keep freed memory for the next batch.

    OpenMP threads that spin while they wait make a busy machine many times slower. On Linux, activations of a batch
    are large enough to be mapped and unmapped anew for every layer, and a new page costs as much as much arithmetic:
    nothing is mapped, and freed memory kept. A forward of EfficientNet-Lite0 with 16 images takes about half the time.
    Mapping only what is very large would not do: whether a batch's largest activations find room in kept memory would
    then hang on where small objects happen to lie. What the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.platform != "linux" or {"MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_"} & set(os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # a C library without it, such as musl
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 1 << 30)
