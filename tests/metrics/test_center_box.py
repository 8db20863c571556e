"""The centre box against the pipeline's own IoU and against counted pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualcam.localize import iou
from dualcam.metrics.center_box import SHARES, best_share, center_box, center_ious


@st.composite
def boxes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    x0, y0 = draw(st.integers(0, 14)), draw(st.integers(0, 14))
    return x0, y0, draw(st.integers(x0 + 1, 16)), draw(st.integers(y0 + 1, 16))


@given(st.lists(boxes(), max_size=4))
def test_the_best_true_box_counts(truth: list[tuple[int, int, int, int]]) -> None:
    expected = [max((iou(center_box(share, 16).tolist(), box) for box in truth), default=0.0) for share in SHARES]
    np.testing.assert_allclose(center_ious(np.array(truth, dtype=np.float64).reshape(-1, 4), 16), expected, atol=1e-12)


@given(boxes())
def test_inclusive_corners_count_pixels(box: tuple[int, int, int, int]) -> None:
    """On whole pixels the inclusive IoU of corners is the IoU of the sets of pixels."""
    x0, y0, x1, y1 = box
    drawn, true = np.zeros((16, 16), bool), np.zeros((16, 16), bool)
    drawn[4:12, 4:12] = True
    true[y0:y1, x0:x1] = True
    corners = np.array([[x0, y0, x1 - 1, y1 - 1]], dtype=np.float64)
    assert center_ious(corners, 16, [0.25], inclusive=True)[0] == pytest.approx(
        (drawn & true).sum() / (drawn | true).sum()
    )


def test_shares_and_choice() -> None:
    whole = np.array([[0.0, 0.0, 224.0, 224.0]])
    np.testing.assert_allclose(center_ious(whole), SHARES)
    assert center_box(0.25).tolist() == [56, 56, 168, 168]
    assert center_ious(np.zeros((1, 4)))[0] == 0
    for share in (0, 1.1):
        with pytest.raises(ValueError, match="share"):
            center_box(share)
    assert best_share([[0.1, 0.6, 0.7], [0.5, 0.4, 0.6]], 0.5) == 2
    assert best_share([[0.1, 0.6, 0.7]], 0.5) == 1
