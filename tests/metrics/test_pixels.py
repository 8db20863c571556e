"""PxAP and mask IoU against sorted scores, scikit-learn and loops."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, jaccard_score

from dualcam.metrics.mask_iou import (
    best_mask_cut,
    mask_ious,
    mean_mask_iou,
    pooled_mask_iou,
    sum_mask_ious,
)
from dualcam.metrics.pixel_ap import BINS, THRESHOLDS, average_precision, bin_edges, instance_mask, pixel_counts

Map = NDArray[np.float32]
Mask = NDArray[np.uint8]
maps = arrays.arrays("float32", (5, 6), elements=st.sampled_from([0, 0.001, 0.2, 0.2005, 0.5, 0.9995, 1]))
masks = arrays.arrays("uint8", (5, 6), elements=st.sampled_from([0, 1, 255]))
sets = st.lists(st.tuples(maps, masks), min_size=1, max_size=4)


def counts_of(images: list[tuple[Map, Mask]]) -> NDArray[np.int64]:
    return np.stack([pixel_counts(heatmap, mask) for heatmap, mask in images])


@given(maps, masks)
def test_counts_are_those_of_a_loop(heatmap: Map, mask: Mask) -> None:
    edges, expected = bin_edges(), np.zeros((2, BINS), dtype=np.int64)
    for score, truth in zip(heatmap.ravel().tolist(), mask.ravel().tolist(), strict=True):
        if truth != 255:
            place = max(k for k in range(len(edges)) if edges[k] <= score)
            expected[truth, place] += 1
    np.testing.assert_array_equal(pixel_counts(heatmap, mask), expected)


@given(sets)
def test_pooled_precision_is_scikit_learns_on_binned_scores(images: list[tuple[Map, Mask]]) -> None:
    """Equal because scores are put on the thresholds first; on raw scores scikit-learn has a threshold per score."""
    scores = np.concatenate([heatmap[mask != 255] for heatmap, mask in images])
    truth = np.concatenate([mask[mask != 255] for _, mask in images])
    ours = float(average_precision(counts_of(images).sum(0)))
    if not truth.any():
        assert np.isnan(ours)
        return
    binned = THRESHOLDS[np.searchsorted(THRESHOLDS, scores.astype(np.float64), side="right") - 1]
    assert ours == pytest.approx(100 * average_precision_score(truth, binned), abs=1e-9)


def test_fine_thresholds_come_close_to_scikit_learn_on_raw_scores() -> None:
    generator = np.random.default_rng(0)
    mask = generator.integers(0, 2, (100, 100)).astype(np.uint8)
    heatmap = (0.7 * generator.random((100, 100)) + 0.3 * mask).astype(np.float32)
    exact = 100 * average_precision_score(mask.ravel(), heatmap.ravel())
    coarse = average_precision(pixel_counts(heatmap, mask))
    fine = average_precision(pixel_counts(heatmap, mask, np.arange(100_001) / 100_000))
    assert abs(fine - exact) < 0.01 < 0.5 > abs(coarse - exact)


def test_counts_stay_exact_past_float32() -> None:
    """One more pixel among 2^24 changes the figure, as it does not in float32 sums."""
    counts = np.zeros((2, BINS), dtype=np.int64)
    counts[:, 3], counts[1, 900] = 2**25, 1
    more = counts.copy()
    more[0, 3] += 1
    assert average_precision(more) < average_precision(counts)


@given(sets, st.integers(0, 4))
def test_shards_add_up(images: list[tuple[Map, Mask]], cut: int) -> None:
    counts = counts_of(images)
    np.testing.assert_array_equal(counts[:cut].sum(0) + counts[cut:].sum(0), counts.sum(0))
    parts = [sum_mask_ious(part) for part in (counts[:cut], counts[cut:])]
    sums, number = sum_mask_ious(counts)
    np.testing.assert_allclose(parts[0][0] + parts[1][0], sums)
    assert parts[0][1] + parts[1][1] == number


@given(sets)
def test_mask_ious_are_those_of_a_loop(images: list[tuple[Map, Mask]]) -> None:
    counts = counts_of(images)
    for position in (0, 1, 200, 201, 500, 999, 1000):
        each = []
        for heatmap, mask in images:
            kept = mask != 255
            drawn = heatmap[kept] >= THRESHOLDS[position]
            if (mask == 1).any():
                each.append(jaccard_score(mask[kept], drawn))
        found = mask_ious(counts)[:, position]
        np.testing.assert_allclose(found[~np.isnan(found)], each)
        assert len(each) == int((~np.isnan(found)).sum())
        mean = mean_mask_iou(counts, position)
        assert mean == pytest.approx(100 * np.mean(each)) if each else np.isnan(mean)


@given(sets)
def test_the_best_cut_is_the_first_of_the_highest_mean(images: list[tuple[Map, Mask]]) -> None:
    counts = counts_of(images)
    sums, _ = sum_mask_ious(counts)
    cut = best_mask_cut(counts)
    assert sums[cut] == sums.max()
    assert (sums[:cut] < sums[cut]).all()
    together = pooled_mask_iou(counts, cut)
    kept = [(heatmap[mask != 255], mask[mask != 255]) for heatmap, mask in images]
    scores, truth = (np.concatenate(part) for part in zip(*kept, strict=True))
    if truth.any():
        assert together == pytest.approx(100 * jaccard_score(truth, scores >= THRESHOLDS[cut]))
    else:
        assert np.isnan(together)


def test_degenerate_images() -> None:
    zeros, ones = np.zeros((4, 4), np.float32), np.ones((4, 4), np.float32)
    half = np.zeros((4, 4), np.uint8)
    half[:2] = 1
    ignored = np.full((4, 4), 255, np.uint8)
    assert average_precision(pixel_counts(zeros, half)) == average_precision(pixel_counts(ones, half)) == 50
    assert average_precision(pixel_counts(zeros, np.ones((4, 4), np.uint8))) == 100
    assert np.isnan(average_precision(pixel_counts(ones, np.zeros((4, 4), np.uint8))))
    assert not pixel_counts(ones, ignored).any()
    assert np.isnan(mask_ious(pixel_counts(ones, ignored))).all()
    assert np.isnan(mean_mask_iou(pixel_counts(ones, ignored)[None], 0))
    found = mask_ious(pixel_counts(zeros, half))
    assert found[0] == 0.5
    assert not found[1:].any()


@pytest.mark.parametrize(
    ("heatmap", "mask", "message"),
    [
        (np.full((2, 2), 1.5, np.float32), np.zeros((2, 2), np.uint8), r"\[0, 1\]"),
        (np.full((2, 2), np.nan, np.float32), np.zeros((2, 2), np.uint8), r"\[0, 1\]"),
        (np.zeros((2, 2), np.float32), np.full((2, 2), 7, np.uint8), "0, 1 or 255"),
        (np.zeros((2, 2), np.float32), np.zeros((2, 3), np.uint8), "one shape"),
    ],
)
def test_what_is_no_map_or_mask_is_refused(heatmap: Map, mask: Mask, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pixel_counts(heatmap, mask)


@given(arrays.arrays("uint8", (2, 7, 5), elements=st.sampled_from([0, 255])))
def test_masks_join_and_foreground_is_not_ignored(stack: Mask) -> None:
    mask = instance_mask(stack[:1], stack[1:], grid=4)
    small = [cv2.resize(each, (4, 4), interpolation=cv2.INTER_NEAREST) > 0 for each in stack]
    np.testing.assert_array_equal(mask == 1, small[0])
    np.testing.assert_array_equal(mask == 255, small[1] & ~small[0])
    np.testing.assert_array_equal(instance_mask(stack, grid=4) == 1, small[0] | small[1])


def test_masks_may_differ_in_size() -> None:
    whole = instance_mask([np.ones((3, 9), np.uint8), np.zeros((5, 5), np.uint8)], grid=8)
    assert (whole == 1).all()
    assert not instance_mask([], grid=8).any()
