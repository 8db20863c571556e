"""Box accuracy from IoU curves against loops written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from dualcam.metrics.bootstrap import mean_interval
from dualcam.metrics.loc_accuracy import LocCounts, count_localized
from dualcam.metrics.localization import (
    V1_DELTAS,
    V2_DELTAS,
    count_hits,
    max_box_accuracy,
    max_box_accuracy_over_test,
    v2_scores,
)
from dualcam.metrics.packed_hits import count_packed, hits_at, pack_hits, unpack_hits

Curves = NDArray[np.float64]
curves = arrays.arrays(
    "float64",
    st.tuples(st.integers(1, 8), st.integers(1, 19)),
    elements=st.sampled_from([0.0, 0.29, 0.3, 0.5, 0.61, 0.7, 1]),
)


def brute(ious: Curves, delta: float) -> list[float]:
    """Return box accuracy in percent at each threshold."""
    found = []
    for t in range(ious.shape[1]):
        right = 0
        for image in ious:
            right += image[t] >= delta
        found.append(100 * right / len(ious))
    return found


@given(curves)
def test_accuracy_is_that_of_loops(ious: Curves) -> None:
    hits = count_hits(ious)
    rows = [brute(ious, delta) for delta in V2_DELTAS]
    np.testing.assert_array_equal(hits.percent, rows)
    assert hits.best().tolist() == [row.index(max(row)) for row in rows]
    assert max_box_accuracy_over_test(hits) == pytest.approx(sum(map(max, rows)) / 3)
    assert max_box_accuracy_over_test(count_hits(ious, V1_DELTAS)) == max(brute(ious, 0.5))
    assert hits.mean_best_iou == pytest.approx(100 * sum(max(image) for image in ious.tolist()) / len(ious))


@given(curves, st.integers(0, 8))
def test_shards_add_up(ious: Curves, cut: int) -> None:
    total, whole = count_hits(ious[:cut]) + count_hits(ious[cut:]), count_hits(ious)
    np.testing.assert_array_equal(total.correct, whole.correct)
    assert total.images == whole.images == len(ious)
    assert total.iou_sum == pytest.approx(whole.iou_sum)


@given(curves, st.data())
def test_chosen_elsewhere_is_never_better(ious: Curves, data: st.DataObject) -> None:
    other = data.draw(arrays.arrays("float64", ious.shape, elements=st.floats(0, 1)))
    test, val = count_hits(ious), count_hits(other)
    assert max_box_accuracy(test, chosen_on=val) <= max_box_accuracy_over_test(test)
    assert max_box_accuracy(test, chosen_on=val) == pytest.approx(np.mean(test.at(val.best())))


@given(curves, st.data())
def test_scores_of_images_average_to_the_accuracy(ious: Curves, data: st.DataObject) -> None:
    positions = data.draw(st.lists(st.integers(0, ious.shape[1] - 1), min_size=3, max_size=3))
    scores = v2_scores(ious, positions)
    assert 100 * scores.mean() == pytest.approx(count_hits(ious).at(positions).mean())
    assert 100 * mean_interval(scores, resamples=20).mean == pytest.approx(100 * scores.mean())


@given(curves, st.data())
def test_packed_hits_are_the_hits(ious: Curves, data: st.DataObject) -> None:
    packed, thresholds = pack_hits(ious), ious.shape[1]
    hits = ious[:, None] >= np.array(V2_DELTAS)[:, None]
    np.testing.assert_array_equal(unpack_hits(packed, thresholds), hits)
    positions = data.draw(st.lists(st.integers(0, thresholds - 1), min_size=3, max_size=3))
    np.testing.assert_array_equal(hits_at(packed, positions), hits[:, range(3), positions])
    np.testing.assert_array_equal(count_packed(packed, thresholds, chunk=3), count_hits(ious).correct)
    assert pack_hits(np.zeros((2, 5, 256))).shape == (2, 5, 3, 32)


def test_no_images_have_no_accuracy() -> None:
    empty = count_hits(np.zeros((0, 4)))
    assert np.isnan(empty.percent).all()
    assert np.isnan(max_box_accuracy_over_test(empty))
    assert np.isnan(empty.mean_best_iou)
    assert all(np.isnan(value) for value in LocCounts().percent.values())


def test_counts_of_other_settings_do_not_mix() -> None:
    with pytest.raises(ValueError, match="same deltas"):
        count_hits(np.zeros((1, 4))) + count_hits(np.zeros((1, 4)), V1_DELTAS)
    with pytest.raises(ValueError, match="thresholds were chosen"):
        max_box_accuracy(count_hits(np.zeros((1, 4))), chosen_on=count_hits(np.zeros((1, 4)), V1_DELTAS))
    with pytest.raises(ValueError, match="one rank per IoU"):
        count_localized([0.4], np.zeros(2, np.int64))


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.4, 0.5, 1.0]), st.integers(0, 6)), max_size=12), st.integers(0, 12))
def test_localized_and_right(images: list[tuple[float, int]], cut: int) -> None:
    ious = [iou for iou, _ in images]
    ranks = np.array([rank for _, rank in images], dtype=np.int64)
    counts = count_localized(ious, ranks)
    assert counts.images == len(images)
    assert counts.known == sum(iou >= 0.5 for iou in ious)
    assert counts.top1 == sum(iou >= 0.5 and rank == 0 for iou, rank in images)
    assert counts.top5 == sum(iou >= 0.5 and rank <= 4 for iou, rank in images)
    assert count_localized(ious[:cut], ranks[:cut]) + count_localized(ious[cut:], ranks[cut:]) == counts
    if images:
        assert counts.percent["Top-1 Loc"] <= counts.percent["Top-5 Loc"] <= counts.percent["GT-known Loc"]
