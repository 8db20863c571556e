"""Pointing: whether the map's peak lies in the box (Zhang et al., ECCV 2016)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def peak(heatmap: NDArray[np.float32]) -> tuple[int, int]:
    """Return the pixel (x, y) of the map's maximum; of several, the first in reading order."""
    row, column = np.unravel_index(int(np.argmax(heatmap)), heatmap.shape)
    return int(column), int(row)


def peak_in_box(heatmap: NDArray[np.float32], box: Sequence[float]) -> bool:
    """Whether the peak lies in ``box`` (XYXY, half-open, map pixels); a constant map points nowhere."""
    if heatmap.max() == heatmap.min():
        return False
    x, y = peak(heatmap)
    return box[0] <= x < box[2] and box[1] <= y < box[3]
