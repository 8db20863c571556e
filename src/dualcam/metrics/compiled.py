"""Compiling with numba: helpers on first use, one kernel kept on disk for the next process."""

import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")
_lock = threading.Lock()


def helper(function: Callable[P, R]) -> Callable[P, R]:
    """Make ``function`` callable from a kernel; it is compiled, and stored, as part of that kernel."""
    return cast(Callable[P, R], numba.njit(nogil=True)(function))


def relaxed(function: Callable[P, R]) -> Callable[P, R]:
    """Make a `helper` whose sums may go in any one order, and which divides by zero as numpy does.

    Its loops fill the processor's vector registers; the order depends on the processor alone. Not for NaN.
    """
    flags = {"reassoc", "contract", "nsz", "nnan"}
    return cast(Callable[P, R], numba.njit(nogil=True, fastmath=flags, error_model="numpy")(function))


def kernel(
    function: Callable[P, R], signature: str, what: str = "the box evaluation, some fifteen seconds"
) -> Callable[P, R]:
    """Compile ``function`` for one ``signature``, or load it from the cache folder.

    The folder is ``$NUMBA_CACHE_DIR``, else ``$DUALCAM_CACHE/numba``, else ``dualcam/numba`` in the user's cache
    folder. Where it is not there yet, a line on standard error says ``what`` the wait is for. If that folder can not
    be written to, numba tries its own places; without any, every process compiles anew. All helpers of a kernel are in
    its file: changes elsewhere would not be noticed.
    """
    folder = _folder(Path(function.__code__.co_filename))
    if not any(folder.rglob("*.nbc")):
        print(f"dualcam: compiling {what}, once on this machine", file=sys.stderr)
    with _lock:
        config: Any = numba.config
        before = config.CACHE_DIR
        config.CACHE_DIR = str(folder)  # numba looks for a writable folder while it decorates
        try:
            return cast(Callable[P, R], numba.njit(signature, nogil=True, cache=True)(function))
        except (RuntimeError, OSError):  # numba's words for: no folder to write to; the disk is full
            return cast(Callable[P, R], numba.njit(signature, nogil=True)(function))
        finally:
            config.CACHE_DIR = before


def _folder(source: Path) -> Path:
    """Return the cache folder of this very source, numba, Python and processor."""
    root = os.environ.get("NUMBA_CACHE_DIR")
    own = os.environ.get("DUALCAM_CACHE")
    if root:
        base = Path(root)
    elif own:
        base = Path(own) / "numba"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dualcam" / "numba"
    codegen: Any = numba.core.codegen
    state = source.stat()
    identity = (source, state.st_mtime_ns, numba.__version__, sys.version, codegen.get_host_cpu_features())
    return base / f"dualcam-{hashlib.sha256(repr(identity).encode()).hexdigest()[:16]}"
