"""Heat map to boxes, against a flood fill written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from dualcam import Box
from dualcam.errors import ChoiceError
from dualcam.localize import find_boxes, iou

Map = NDArray[np.float32]
small_maps = arrays.arrays(
    "float32", st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.sampled_from([0, 0.1, 0.25, 0.5, 0.9, 1])
)


def flood(heatmap: Map, threshold: float) -> list[tuple[tuple[int, int, int, int], float]]:
    """Return XYXY boxes and shares of the 8-connected components, by a stack of cells."""
    levels = np.floor(255 * heatmap.astype(np.float64))
    cut = int(threshold * levels.max())
    left = {(int(y), int(x)) for y, x in np.argwhere(levels > cut)}
    found = []
    while left:
        stack, component = [left.pop()], []
        while stack:
            y, x = stack.pop()
            component.append((y, x))
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            stack.extend(around)
        ys, xs = [y for y, _ in component], [x for _, x in component]
        share = sum(float(heatmap[cell]) for cell in component) / float(heatmap.sum(dtype=np.float64))
        found.append(((min(xs), min(ys), max(xs) + 1, max(ys) + 1), share))
    return found


@given(small_maps, st.sampled_from([0.0, 0.2, 0.5, 0.95]))
def test_boxes_are_those_of_a_flood_fill(heatmap: Map, threshold: float) -> None:
    found = find_boxes(heatmap, threshold)
    expected = flood(heatmap, threshold)
    assert sorted((box.x0, box.y0, box.x1, box.y1) for box in found) == sorted(box for box, _ in expected)
    np.testing.assert_allclose(
        [box.score for box in found], sorted((share for _, share in expected), reverse=True), rtol=1e-6
    )


def test_best_box_first_in_source_pixels() -> None:
    heatmap = np.zeros((6, 8), np.float32)
    heatmap[1:3, 2:5] = 0.5
    heatmap[5, 7] = 1
    first, second = find_boxes(heatmap, 0.2, scale=(10, 2))
    assert first == Box(20, 2, 50, 6, score=0.75)
    assert second == Box(70, 10, 80, 12, score=0.25)


def test_diagonal_neighbours_are_one_component() -> None:
    assert [box.score for box in find_boxes(np.eye(4, dtype=np.float32))] == [1]


def test_the_threshold_is_exclusive_and_relative() -> None:
    heatmap = np.array([[0.1, 0.5, 0, 0.05]], np.float32)
    assert len(find_boxes(heatmap, 0.0)) == 2
    (box,) = find_boxes(heatmap, 0.5)
    assert (box.x0, box.x1) == (1, 2)


def test_zeros_have_no_box() -> None:
    assert find_boxes(np.zeros((5, 5), np.float32), 0.0) == []


@pytest.mark.parametrize("threshold", [1, 1.5, -0.1])
def test_a_threshold_outside_its_range(threshold: float) -> None:
    with pytest.raises(ChoiceError, match=str(threshold)):
        find_boxes(np.ones((2, 2), np.float32), threshold)


@pytest.mark.parametrize(
    ("box", "other", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),  # half-open: these only touch
        ((0, 0, 4, 4), (1, 1, 2, 2), 1 / 16),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
    ],
)
def test_iou(box: tuple[int, ...], other: tuple[int, ...], expected: float) -> None:
    assert iou(box, other) == pytest.approx(expected)
    assert iou(other, box) == pytest.approx(expected)
