"""The IoU of a map's boxes with the true ones at every cut: exact, and in time that no number of cuts changes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dualcam.errors import DataError, check_choice

Mode = Literal["reference", "clean"]
MODES: tuple[Mode, ...] = ("reference", "clean")


@dataclass(frozen=True)
class BoxCurve:
    """IoU in [0, 1] per cut [T]; of the ``largest`` contour by polygon area. Empty where it was not asked for."""

    any: NDArray[np.float64]
    """The best of any contour's box with any true box."""
    largest: NDArray[np.float64]
    """Of the box of the largest contour, with the true box that it fits best."""
    largest_first: NDArray[np.float64]
    """Of the box of the largest contour, with the first true box."""


def box_curve(
    levels: NDArray[np.uint8] | NDArray[np.uint16],
    cuts: NDArray[np.int64],
    truth: NDArray[np.float64],
    *,
    mode: Mode = "reference",
    largest: bool = True,
) -> BoxCurve:
    """Return the IoU of the boxes of ``levels`` > cut with the true boxes, for each of ``cuts`` [T].

    ``levels`` [H, W] are integers; cuts may be negative, unsorted, repeated. ``truth`` is [G, 4], XYXY in map pixels.

    ``reference``: contours of 8-connected components and of holes, as ``cv2.findContours`` gives them under
    ``RETR_TREE``; rectangles x, y, x + w, y + h are cut off at W - 1, H - 1; sides count one more; without any contour
    the box is (0, 0, 0, 0). Of contours with the largest ``cv2.contourArea`` the first in OpenCV's order counts.
    ``clean``: half-open boxes of components, plain IoU, 0 without any; of the largest the first in reading order.

    The first call compiles for some seconds, once on a machine; see `dualcam.metrics.compiled`.
    """
    check_choice("mode", mode, MODES)
    if levels.ndim != 2 or not levels.size or levels.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"levels are uint8 or uint16 [H, W]; these are {levels.dtype} {list(levels.shape)}")
    boxes = np.ascontiguousarray(truth, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise TypeError(f"truth is [G, 4], XYXY; this is {list(boxes.shape)}")
    ranks, position, count = _ranks(int(levels.max()), np.asarray(cuts, dtype=np.int64))
    values = np.ascontiguousarray(levels, dtype=np.uint16)
    from dualcam.metrics.component_tree import run

    curves = run(values, ranks, count, boxes, mode == "reference", largest)
    empty = _empty_box(boxes) if mode == "reference" else (0.0, 0.0)
    whole = [np.append(curve, value)[position] for curve, value in zip(curves, (*empty[:1], *empty), strict=True)]
    return BoxCurve(*whole) if largest else BoxCurve(whole[0], np.empty(0), np.empty(0))


def _ranks(top: int, cuts: NDArray[np.int64]) -> tuple[NDArray[np.uint16], NDArray[np.int64], int]:
    """Return for 0 to ``top`` the number of different cuts below, each cut's position among these, and their number.

    Only cuts that leave foreground count; the others' position is that number.
    """
    bounded = np.clip(cuts, -1, top) + 1
    wanted = np.zeros(top + 2, dtype=np.uint16)
    wanted[bounded] = 1
    wanted[-1] = 0
    ranks = np.cumsum(wanted, dtype=np.uint16)
    position = ranks[bounded].astype(np.int64) - 1
    count = int(ranks[-1])
    position[bounded == top + 1] = count
    return ranks, position, count


def _empty_box(truth: NDArray[np.float64]) -> tuple[float, float]:
    """Return the IoU of the box (0, 0, 0, 0), sides counted one more, with any box and with the first."""
    meets = (np.maximum(truth[:, :2], 0) <= np.minimum(truth[:, 2:], 0)).all(axis=1)
    sides = truth[:, 2:] - truth[:, :2] + 1
    values = np.where(meets, 1 / np.maximum(sides.prod(axis=1), 1), 0.0)
    return (float(values.max()), float(values[0])) if len(values) else (0.0, 0.0)


def quantize(heatmap: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return trunc(255 map) of a float map [H, W] in [0, 1], computed in the map's own precision."""
    if not isinstance(heatmap, np.ndarray) or heatmap.ndim != 2 or not np.issubdtype(heatmap.dtype, np.floating):
        kind = f"{heatmap.dtype} {list(heatmap.shape)}" if isinstance(heatmap, np.ndarray) else type(heatmap).__name__
        raise TypeError(f"a map is a float array [H, W]; this is {kind}")
    if not (heatmap.size and heatmap.min() >= 0 and heatmap.max() <= 1):
        raise ValueError("a map has values in [0, 1] and no NaN; normalize it first")
    return (heatmap * heatmap.dtype.type(255)).astype(np.uint8)


def cuts_of(levels: NDArray[np.uint8] | NDArray[np.uint16], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the integer cut trunc(t * max(levels)) of each threshold [T] in [0, 1]."""
    return np.asarray(np.asarray(thresholds, dtype=np.float64) * float(levels.max())).astype(np.int64)


def scale_boxes(
    boxes: NDArray[np.float64] | NDArray[np.int64], size: tuple[int, int], *, grid: int = 224, mode: Mode
) -> NDArray[np.float64]:
    """Return boxes [G, 4], XYXY of a photo of ``size`` (width, height), in pixels of a ``grid`` x ``grid`` map.

    ``reference`` cuts the decimals off and refuses (`DataError`) boxes that are negative or inverted; ``clean`` keeps
    both. Neither one clips to the map.
    """
    check_choice("mode", mode, MODES)
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    width, height = size
    scaled = corners * grid / np.array((width, height, width, height), dtype=np.float64)
    if mode == "clean":
        return scaled
    wrong = (corners < 0).any(axis=1) | (corners[:, :2] > corners[:, 2:]).any(axis=1)
    if wrong.any():
        raise DataError(f"a box is x0 <= x1, y0 <= y1, none negative; this one is {corners[wrong][0].tolist()}")
    return np.trunc(scaled)
