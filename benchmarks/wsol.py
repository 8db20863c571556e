"""What the box evaluation costs: CPU time a map at 1001 thresholds, beside OpenCV cut by cut in the same run.

    python -m benchmarks.wsol [--rounds 7] [--maps 5] [--skip-start]

Maps are 224 x 224: bilinear from random 7 x 7 and 14 x 14, and uniform noise; one thread, rounds interleaved, the
median of process CPU time. The OpenCV side finds each different cut's contours once, which is kinder than all 1001.
Both give the same numbers, which is checked. The start is timed in fresh processes: with an empty cache, and after.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import cv2
import numpy as np
from cyclopts import App
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from dualcam.metrics.box_curve import MODES, box_curve, cuts_of, quantize

SIDE = 224
THRESHOLDS = np.arange(1001) / 1000
TRUTH = np.array([[30, 40, 150, 180], [100, 20, 200, 90]], dtype=np.float64)
app = App(help=__doc__)
console = Console(width=120)


def make(kind: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the levels of a map of ``kind``: noise, or the side of the random grid."""
    if kind == "noise":
        return quantize(rng.random((SIDE, SIDE)))
    grid = rng.random((int(kind), int(kind)), dtype=np.float32)
    heatmap = np.asarray(cv2.resize(grid, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    return quantize((heatmap - heatmap.min()) / np.ptp(heatmap))


def by_opencv(levels: NDArray[np.uint8], cuts: NDArray[np.int64], largest: bool) -> NDArray[np.float64]:
    """Return the reference's any-contour (or largest-contour) IoU at each cut [T]."""
    different, position = np.unique(cuts, return_inverse=True)
    values = np.empty(len(different))
    for k, cut in enumerate(different):
        mask = (levels > cut).astype(np.uint8)
        contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
        if largest and contours:
            contours = [max(contours, key=cv2.contourArea)]
        rectangles = np.array([cv2.boundingRect(contour) for contour in contours] or [(0, 0, 0, 0)])
        corners = rectangles[:, None, :2]
        ends = np.minimum(corners + rectangles[:, None, 2:], SIDE - 1)
        shared = np.clip(np.minimum(ends, TRUTH[:, 2:]) - np.maximum(corners, TRUTH[:, :2]) + 1, 0, None).prod(-1)
        areas = (ends - corners + 1).prod(-1) + (TRUTH[:, 2:] - TRUTH[:, :2] + 1).prod(-1)
        values[k] = (shared / (areas - shared)).max()
    return values[position]


def milliseconds(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median CPU milliseconds of each call, measured in turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if round_:  # the first round warms up
                found[name].append(1e3 * (time.process_time() - start))
    return {name: median(values) for name, values in found.items()}


def measure(kind: str, maps: int, rounds: int) -> dict[str, float]:
    """Return the CPU milliseconds a map of ``kind``, the median over maps."""
    rng = np.random.default_rng(0)
    found: list[dict[str, float]] = []
    for _ in range(maps):
        levels = make(kind, rng)
        cuts = cuts_of(levels, THRESHOLDS)
        curve = box_curve(levels, cuts, TRUTH)
        np.testing.assert_array_equal(curve.any, by_opencv(levels, cuts, False))
        np.testing.assert_array_equal(curve.largest, by_opencv(levels, cuts, True))
        calls: dict[str, Callable[[], object]] = {
            "opencv, any": partial(by_opencv, levels, cuts, False),
            "opencv, largest": partial(by_opencv, levels, cuts, True),
        }
        for mode in MODES:
            calls[f"{mode}, any"] = partial(box_curve, levels, cuts, TRUTH, mode=mode, largest=False)
            calls[f"{mode}, any and largest"] = partial(box_curve, levels, cuts, TRUTH, mode=mode)
        found.append(milliseconds(calls, rounds))
    return {name: median(item[name] for item in found) for name in found[0]}


def starts() -> tuple[float, float, float]:
    """Return the wall seconds of fresh processes that evaluate one box: cold, warm, and one that stops before."""
    ready = "import numpy as np; from dualcam.metrics.box_curve import box_curve;"
    work = "box_curve(np.eye(3, dtype=np.uint8), np.array([0]), np.zeros((1, 4)))"

    def seconds(code: str, cache: str) -> float:
        environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], env=environment | {"DUALCAM_CACHE": cache}, check=True)
        return time.perf_counter() - begin

    with tempfile.TemporaryDirectory() as cache:
        cold = seconds(ready + work, cache)
        warm = median(seconds(ready + work, cache) for _ in range(5))
        return cold, warm, median(seconds(ready, cache) for _ in range(5))


@app.default
def main(*, rounds: int = 7, maps: int = 5, skip_start: bool = False) -> None:
    """Print the tables."""
    cv2.setNumThreads(1)
    table = Table(title=f"CPU ms a map, {len(THRESHOLDS)} thresholds; ratio: how many times faster than OpenCV's")
    for column in ("map", "what", "ms", "ratio"):
        table.add_column(column)
    for kind in ("7", "14", "noise"):
        found = measure(kind, maps, rounds)
        for name, value in found.items():
            peer = found["opencv, any"] + (found["opencv, largest"] if "and" in name else 0.0)
            ratio = "" if name.startswith("opencv") else f"{peer / value:.0f}"
            table.add_row(kind if kind == "noise" else f"smooth {kind} x {kind}", name, f"{value:.2f}", ratio)
        table.add_section()
    console.print(table)
    if not skip_start:
        cold, warm, idle = starts()
        console.print(f"first call with an empty cache: {cold - idle:.1f} s; in later processes: {warm - idle:.2f} s")


if __name__ == "__main__":
    app()
