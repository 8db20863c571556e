"""The fast curve against OpenCV, cut by cut, for equality."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from dualcam.errors import ChoiceError, DataError
from dualcam.metrics.box_curve import MODES, Mode, box_curve, cuts_of, quantize, scale_boxes

Levels = NDArray[np.uint8] | NDArray[np.uint16]
Floats = NDArray[np.float64]
Box = tuple[float, float, float, float]


def iou(box: Box, truth: Floats, pixel: float) -> Floats:
    x0, y0, x1, y1 = box
    across = np.maximum(0, np.minimum(x1, truth[:, 2]) - np.maximum(x0, truth[:, 0]) + pixel)
    down = np.maximum(0, np.minimum(y1, truth[:, 3]) - np.maximum(y0, truth[:, 1]) + pixel)
    areas = (truth[:, 2] - truth[:, 0] + pixel) * (truth[:, 3] - truth[:, 1] + pixel)
    shared = across * down
    values: Floats = shared / ((x1 - x0 + pixel) * (y1 - y0 + pixel) + areas - shared)
    return values


def by_opencv(levels: Levels, cut: int, truth: Floats, mode: Mode) -> tuple[float, float, float]:
    """Return any, largest, largest_first at one cut, straight from the definition."""
    height, width = levels.shape
    contours, tree = cv2.findContours((levels > cut).astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if mode == "clean":
        outer = [k for k, c in enumerate(contours) if depth(tree[0], k) % 2 == 0]
        contours = sorted((contours[k] for k in outer), key=first_pixel)
        if not contours:
            return 0.0, 0.0, 0.0
    boxes: list[Box] = []
    for x, y, w, h in map(cv2.boundingRect, contours):
        edge = mode == "reference"
        boxes.append((x, y, min(x + w, width - edge), min(y + h, height - edge)))
    areas = [cv2.contourArea(contour) for contour in contours]
    boxes, areas = boxes or [(0.0, 0.0, 0.0, 0.0)], areas or [0.0]
    values = [iou(box, truth, float(mode == "reference")) for box in boxes]
    main = max(range(len(areas)), key=areas.__getitem__)
    return max(float(v.max()) for v in values), float(values[main].max()), float(values[main][0])


def depth(tree: NDArray[np.int32], k: int) -> int:
    parent = int(tree[k, 3])
    return 0 if parent < 0 else 1 + depth(tree, parent)


def first_pixel(contour: Any) -> tuple[int, int]:
    return min((int(y), int(x)) for x, y in contour.reshape(-1, 2))


def check(levels: Levels, truth: Floats, cuts: NDArray[np.int64] | None = None) -> None:
    if cuts is None:
        cuts = np.array([*range(-2, int(levels.max()) + 2), 0, 1, -7])
    for mode in MODES:
        known = {cut: by_opencv(levels, cut, truth, mode) for cut in set(cuts.tolist())}
        expected = np.array([known[cut] for cut in cuts.tolist()]).T
        curve = box_curve(levels, cuts, truth, mode=mode)
        for name, found, wanted in zip(
            ("any", "largest", "largest_first"), (curve.any, curve.largest, curve.largest_first), expected, strict=True
        ):
            np.testing.assert_array_equal(found, wanted, err_msg=f"{mode} {name}")
        quick = box_curve(levels, cuts, truth, mode=mode, largest=False)
        np.testing.assert_array_equal(quick.any, expected[0])
        assert quick.largest.shape == quick.largest_first.shape == (0,)


def truths(shape: tuple[int, ...], count: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    height, width = shape
    corners = np.sort(rng.integers(0, (height + 2, width + 2), (2, count, 2)), axis=0)
    boxes = np.concatenate((corners[0, :, ::-1], corners[1, :, ::-1] + 1), axis=1)
    return boxes.astype(np.float64)


def smooth(size: int, seed: int, side: int = 224) -> NDArray[np.float32]:
    grid = np.random.default_rng(seed).random((size, size), dtype=np.float32)
    heatmap = np.asarray(cv2.resize(grid, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    scaled: NDArray[np.float32] = (heatmap - heatmap.min()) / np.ptp(heatmap)
    return scaled


def rings(side: int, widths: int) -> NDArray[np.uint8]:
    y, x = np.indices((side, side))
    distance = np.maximum(abs(y - side // 2), abs(x - side // 2))
    levels: NDArray[np.uint8] = ((distance // widths % 2) * (200 - 3 * distance)).astype(np.uint8)
    return levels


def blobs(seed: int) -> NDArray[np.uint8]:
    y, x = np.indices((80, 90))
    rng = np.random.default_rng(seed)
    spots = [np.exp(-((y - a) ** 2 + (x - b) ** 2) / c) for a, b, c in rng.uniform(5, 85, (6, 3))]
    heatmap: NDArray[np.float64] = np.max(np.stack(spots), axis=0)
    return quantize(heatmap)


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 5)), st.data())
@settings(max_examples=400)
def test_small_arrays(levels: NDArray[np.uint8], data: st.DataObject) -> None:
    check(levels, truths(levels.shape, data.draw(st.integers(1, 4)), data.draw(st.integers(0, 99))))


@given(arrays(np.uint8, (9, 9), elements=st.integers(0, 1)))
@settings(max_examples=300)
def test_masks(levels: NDArray[np.uint8]) -> None:
    check(levels, truths(levels.shape, 2))


@pytest.mark.parametrize("side", [16, 40, 64])
@pytest.mark.parametrize("top", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("seed", range(3))
def test_noise(side: int, top: int, seed: int) -> None:
    levels = np.random.default_rng(seed).integers(0, top + 1, (side, side + seed), dtype=np.uint8)
    check(levels, truths(levels.shape, 1 + seed, seed))


@pytest.mark.parametrize("density", [0.05, 0.2, 0.35, 0.4, 0.45, 0.6, 0.9])
def test_sparse_and_dense_masks(density: float) -> None:
    for seed in range(10):
        mask = np.random.default_rng(seed).random((48, 37)) < density
        check(mask.astype(np.uint8), truths(mask.shape, 3, seed))


@pytest.mark.parametrize("size", [3, 7, 14, 28])
@pytest.mark.parametrize("seed", range(3))
def test_smooth_maps_at_all_thresholds(size: int, seed: int) -> None:
    levels = quantize(smooth(size, seed))
    check(levels, truths(levels.shape, 1 + seed, seed), cuts_of(levels, np.arange(1001) / 1000))


@pytest.mark.parametrize("seed", range(4))
def test_clamped_maps(seed: int) -> None:
    levels = quantize(np.clip(1.6 * smooth(7, seed, 100) - 0.6, 0, 1))
    check(levels, truths(levels.shape, 2, seed))


@pytest.mark.parametrize("seed", range(4))
def test_blobs(seed: int) -> None:
    check(blobs(seed), truths((80, 90), 4, seed))


SHAPES = {
    "zeros": np.zeros((7, 9), np.uint8),
    "constant": np.full((7, 9), 93, np.uint8),
    "full": np.full((7, 9), 255, np.uint8),
    "one pixel": np.ones((1, 1), np.uint8),
    "two by two": np.array([[3, 0], [1, 2]], np.uint8),
    "diagonal": np.eye(8, dtype=np.uint8),
    "crossing": (np.eye(8) + np.eye(8)[::-1]).astype(np.uint8) * np.arange(1, 9, dtype=np.uint8),
    "checkerboard": (np.indices((9, 10)).sum(0) % 2).astype(np.uint8),
    "checkerboard of three": (np.indices((10, 9)).sum(0) % 3).astype(np.uint8),
    "row": np.array([[0, 3, 3, 1, 2, 0, 0, 5, 1, 1, 1, 4]], np.uint8),
    "column": np.array([[0, 3, 3, 1, 2, 0, 0, 5, 1, 1, 1, 4]], np.uint8).T.copy(),
    "frame": np.pad(np.zeros((5, 6), np.uint8), 2, constant_values=4),
    "pit": np.pad(np.zeros((1, 1), np.uint8), 3, constant_values=7),
    "border touch": np.pad(np.full((3, 3), 2, np.uint8), ((0, 4), (4, 0))),
    "diamond": (abs(np.indices((9, 9)) - 4).sum(0) == 3).astype(np.uint8),
    "rings": rings(41, 3),
    "thin rings": rings(31, 1),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_shapes(name: str, count: int) -> None:
    check(SHAPES[name], truths(SHAPES[name].shape, count, count))


def test_lone_pixels_in_every_place() -> None:
    for place in range(20):
        levels = np.zeros((4, 5), np.uint8)
        levels.flat[place] = 9
        check(levels, truths(levels.shape, 2, place))


def test_joint_levels() -> None:
    """Three quantizations of one map, ranked jointly, are three sets of cuts on one map."""
    heatmap = smooth(10, 5, 64).astype(np.float64)
    scaled = [heatmap, np.clip(heatmap * 1.3 - 0.3, 0, 1), heatmap**2]
    steps = [quantize(item) for item in scaled]
    joint = np.unique(np.stack(steps).reshape(3, -1), axis=1, return_inverse=True)[1].reshape(heatmap.shape)
    levels = joint.astype(np.uint16)
    assert levels.max() > 255
    check(levels, truths(levels.shape, 3), np.arange(-1, int(levels.max()) + 1, 3))
    check(steps[0].astype(np.uint16) * 257, truths(levels.shape, 2), np.arange(-1, 65536, 1000))


def test_clean_boxes_keep_fractions() -> None:
    levels = blobs(1)
    truth = truths(levels.shape, 3) + np.random.default_rng(1).random((3, 4))
    cuts = np.arange(-1, 255, 5)
    expected = np.array([by_opencv(levels, int(cut), truth, "clean") for cut in cuts]).T
    curve = box_curve(levels, cuts, truth, mode="clean")
    np.testing.assert_array_equal(np.stack((curve.any, curve.largest, curve.largest_first)), expected)


def test_views_are_levels_too() -> None:
    levels = quantize(smooth(7, 2, 50))
    cuts, truth = np.arange(255), truths((25, 50), 2)
    found, expected = (box_curve(item, cuts, truth) for item in (levels[::-2], levels[::-2].copy()))
    np.testing.assert_array_equal(found.any, expected.any)


def test_no_cuts_and_no_truth() -> None:
    levels = quantize(smooth(7, 2, 50))
    assert box_curve(levels, np.empty(0, np.int64), truths((50, 50), 2)).any.shape == (0,)
    curve = box_curve(levels, np.arange(9), np.empty((0, 4)))
    assert not (curve.any.any() or curve.largest.any() or curve.largest_first.any())


def test_refusals() -> None:
    levels, cuts, truth = np.zeros((3, 3), np.uint8), np.arange(2), np.zeros((1, 4))
    with pytest.raises(TypeError, match="uint8 or uint16"):
        box_curve(levels.astype(np.int64), cuts, truth)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"\[3\]"):
        box_curve(levels[0], cuts, truth)
    with pytest.raises(TypeError, match=r"\[G, 4\]"):
        box_curve(levels, cuts, truth[0])
    with pytest.raises(ChoiceError, match="mode"):
        box_curve(levels, cuts, truth, mode="other")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_quantize(dtype: type) -> None:
    heatmap: NDArray[Any] = np.linspace(0, 1, 1001).reshape(7, 143).astype(dtype)
    np.testing.assert_array_equal(quantize(heatmap), (255 * heatmap).astype(np.uint8))
    for wrong in (np.nan, -0.01, 1.01, np.inf):
        spoiled = heatmap.copy()
        spoiled[3, 3] = wrong
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            quantize(spoiled)
    others: list[Any] = [heatmap[0], heatmap > 0, heatmap.tolist()]
    for other in others:
        with pytest.raises(TypeError, match="float array"):
            quantize(other)


def test_cuts() -> None:
    levels = np.array([[0, 200]], np.uint8)
    assert cuts_of(levels, np.array([0, 0.004, 0.005, 0.29, 0.5, 1])).tolist() == [0, 0, 1, 57, 100, 200]


def test_scale_boxes() -> None:
    boxes = np.array([[10, 20, 33, 100], [0, 0, 600, 50]])
    reference = scale_boxes(boxes, (500, 100), mode="reference")
    assert reference.tolist() == [[4, 44, 14, 224], [0, 0, 268, 112]]
    np.testing.assert_allclose(scale_boxes(boxes, (500, 100), mode="clean", grid=100)[0], [2, 20, 6.6, 100])
    for wrong in ([[-1, 0, 4, 4]], [[5, 0, 4, 4]], [[0, 5, 4, 4]]):
        with pytest.raises(DataError, match="negative"):
            scale_boxes(np.array(wrong), (500, 100), mode="reference")


CALL = (
    "import sys, numpy as np; from dualcam.metrics.box_curve import box_curve; assert 'numba' not in sys.modules;"
    "print(box_curve(np.eye(3, dtype=np.uint8), np.array([0]), np.array([[0., 0, 2, 2]])).any)"
)


@pytest.mark.slow
def test_compiles_once_says_so_and_does_without_a_cache(tmp_path: Path) -> None:
    def run(cache: Path) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {"DUALCAM_CACHE": str(cache)}
        done = subprocess.run(
            [sys.executable, "-c", CALL], env=environment, check=True, capture_output=True, text=True, timeout=200
        )
        assert done.stdout.strip() == "[1.]"
        return done.stderr

    assert "compiling" in run(tmp_path / "cache")
    assert run(tmp_path / "cache") == ""
    (tmp_path / "file").write_text("no folder", encoding="ascii")
    assert "compiling" in run(tmp_path / "file")
