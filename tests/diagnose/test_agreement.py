"""How alike maps are: conventions at the edges, and the order of cells."""

import numpy as np
import pytest

from dualcam.data.preprocessing import Placement
from dualcam.diagnose.agreement import Judge, agreement, box_iou, find_all_boxes, mean_over
from dualcam.diagnose.baselines import compare_scores, localize
from dualcam.diagnose.maps import Maps
from dualcam.types import Box

JUDGE = Judge([Placement.identity(224, 224)] * 2)


def bump(row: int, column: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return an 8 x 8 map with a square of 2 x 2 cells."""
    values = np.zeros((8, 8))
    values[row : row + 2, column : column + 2] = 1
    return values


def test_no_box_in_both_is_agreement_and_in_one_is_none() -> None:
    box = Box(0, 0, 10, 10, 1.0)
    assert box_iou(None, None) == 1
    assert box_iou(box, None) == box_iou(None, box) == 0
    assert box_iou(box, Box(0, 0, 10, 5, 1.0)) == 0.5


def test_the_same_maps_agree_and_opposite_ones_do_not() -> None:
    signed = np.stack([bump(0, 0), bump(3, 4)])
    maps, turned = Maps(signed, signed), Maps(-signed, np.zeros_like(signed))
    boxes, other = find_all_boxes(maps, JUDGE), find_all_boxes(turned, JUDGE)
    same = agreement([(maps, maps)], [(boxes, boxes)])
    assert same.rank.mean == same.box_signed.mean == same.box_positive.mean == 1
    opposite = agreement([(maps, turned)], [(boxes, other)])
    assert opposite.rank.mean == pytest.approx(-1)
    assert opposite.box_positive.mean == 0
    assert opposite.rank.n == 2


def test_draws_are_averaged_photo_by_photo_and_nan_is_left_out() -> None:
    found = mean_over([[1.0, np.nan, 0.0], [0.0, np.nan, 0.0]])
    assert (found.mean, found.n) == (0.25, 2)
    assert mean_over([[0.5, 1.0], [np.nan, 0.0]]).mean == 0.5


def test_a_box_is_found_or_not() -> None:
    maps = Maps(np.stack([bump(2, 2), bump(5, 5)]), np.stack([bump(2, 2), np.zeros((8, 8))]))
    wide = np.array([[56.0, 56.0, 112.0, 112.0]])
    (found,) = localize({"softmax": maps}, JUDGE, [wide, wide])
    assert (found.signed.mean, found.signed.n) == (0.5, 2)
    (found,) = localize({"softmax": maps}, JUDGE, [wide, np.zeros((0, 4))])
    assert (found.signed.mean, found.positive.mean, found.signed.n) == (1, 1, 1)


def test_every_pair_is_compared_once() -> None:
    signed = np.stack([bump(0, 0), bump(3, 4)])
    maps = Maps(signed, signed)
    pairs = compare_scores({"a": maps, "b": maps, "c": maps}, JUDGE)
    assert [(each.first, each.second) for each in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
