"""Pointing: whether the map's peak lies on the object.

Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 15.0
"""Pixels by which a peak may miss the object in the paper's protocol, on images of their own size."""


def peak(heatmap: NDArray[np.float32]) -> tuple[int, int]:
    """Return the pixel (x, y) of the map's maximum; of several, the first in reading order."""
    row, column = np.unravel_index(int(np.argmax(heatmap)), heatmap.shape)
    return int(column), int(row)


def peak_in_box(heatmap: NDArray[np.float32], box: Sequence[float]) -> bool:
    """Whether the peak lies in ``box`` (XYXY, half-open, map pixels); a constant map points nowhere."""
    return peak_in_boxes(heatmap, [box])


def peak_in_boxes(
    heatmap: NDArray[np.float32], boxes: Iterable[Sequence[float]] | NDArray[np.float64], *, tolerance: float = 0.0
) -> bool:
    """Whether some pixel of any of ``boxes`` (XYXY, half-open, map pixels) is within ``tolerance`` of the peak.

    The distance is Euclidean, in map pixels, between pixels: 0 asks for the peak itself. A constant map, and a box that
    holds no pixel, hit nothing.
    """
    if heatmap.max() == heatmap.min():
        return False
    x, y = peak(heatmap)
    return any(_distance(x, y, box) <= tolerance for box in boxes)


def _distance(x: int, y: int, box: Sequence[float] | NDArray[np.float64]) -> float:
    left, top, right, bottom = math.ceil(box[0]), math.ceil(box[1]), math.ceil(box[2]) - 1, math.ceil(box[3]) - 1
    if right < left or bottom < top:
        return math.inf
    return math.hypot(max(left - x, x - right, 0), max(top - y, y - bottom, 0))


def peak_in_mask(heatmap: NDArray[np.float32], mask: NDArray[np.uint8], *, tolerance: float = 0.0) -> bool:
    """Whether some foreground pixel of ``mask`` [H, W] (0, 1, 255 ignored) is within ``tolerance`` of the peak.

    The peak is sought outside of the ignored pixels. Where the map [H, W] is constant there, or where there is no
    foreground, nothing is hit.
    """
    if heatmap.shape != mask.shape:
        raise ValueError(f"expected a map and a mask of one shape; got {heatmap.shape} and {mask.shape}")
    counted = heatmap[mask != 255]
    rows, columns = np.nonzero(mask == 1)
    if not len(rows) or counted.max() == counted.min():
        return False
    x, y = peak(np.where(mask == 255, -np.inf, heatmap).astype(heatmap.dtype))
    return bool(np.hypot(columns - x, rows - y).min() <= tolerance)
