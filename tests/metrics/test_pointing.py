"""The pointing game against the distance to every pixel."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from dualcam.metrics.pointing import peak, peak_in_box, peak_in_boxes, peak_in_mask

maps = arrays.arrays("float32", (6, 7), elements=st.sampled_from([0, 0.25, 0.5, 1]))
corners = st.tuples(*(st.sampled_from([-1, 0, 1, 1.5, 2.25, 3, 4, 6, 9]),) * 4)
tolerances = st.sampled_from([0, 1, 1.5, 3, 15])


@given(maps, st.lists(corners, max_size=3), tolerances)
def test_boxes_against_every_pixel(
    heatmap: NDArray[np.float32], boxes: list[tuple[float, ...]], tolerance: float
) -> None:
    x, y = peak(heatmap)
    inside = [
        (column, row)
        for x0, y0, x1, y1 in boxes
        for row in range(-2, 11)
        for column in range(-2, 11)
        if x0 <= column < x1 and y0 <= row < y1
    ]
    hit = heatmap.min() < heatmap.max() and any(math.hypot(c - x, r - y) <= tolerance for c, r in inside)
    assert peak_in_boxes(heatmap, boxes, tolerance=tolerance) == hit
    if len(boxes) == 1:
        assert peak_in_box(heatmap, boxes[0]) == peak_in_boxes(heatmap, np.array(boxes))


@given(maps, arrays.arrays("uint8", (6, 7), elements=st.sampled_from([0, 1, 255])), tolerances)
def test_masks_against_every_pixel(heatmap: NDArray[np.float32], mask: NDArray[np.uint8], tolerance: float) -> None:
    cells = [(row, column) for row in range(6) for column in range(7) if mask[row, column] != 255]
    values = [heatmap[cell] for cell in cells]
    hit = False
    if cells and min(values) < max(values):
        row, column = cells[values.index(max(values))]
        hit = any(mask[r, c] == 1 and math.hypot(r - row, c - column) <= tolerance for r, c in cells)
    assert peak_in_mask(heatmap, mask, tolerance=tolerance) == hit


def test_nothing_points_nowhere() -> None:
    heatmap = np.zeros((4, 4), np.float32)
    assert not peak_in_boxes(heatmap, [(0, 0, 4, 4)], tolerance=15)
    assert not peak_in_mask(heatmap, np.ones((4, 4), np.uint8), tolerance=15)
    heatmap[1, 2] = 1
    assert peak_in_box(heatmap, (2, 1, 3, 2))
    assert not peak_in_boxes(heatmap, [])
    assert not peak_in_mask(heatmap, np.zeros((4, 4), np.uint8), tolerance=15)
    assert not peak_in_mask(heatmap, np.full((4, 4), 255, np.uint8), tolerance=15)
    with pytest.raises(ValueError, match="one shape"):
        peak_in_mask(heatmap, np.zeros((2, 4), np.uint8))
