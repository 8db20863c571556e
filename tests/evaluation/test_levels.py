"""One picture of levels holds the foreground of every normalization at every cut."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import from_numpy

from dualcam.data.preprocessing import Placement
from dualcam.evaluation.levels import CUTS, joint_levels, resize
from dualcam.evaluation.views import GRID, ViewMaps
from dualcam.heatmap import normalize
from dualcam.types import Normalization

HOW: tuple[Normalization, ...] = ("minmax", "max", "ivr")
maps = arrays(np.float32, (6, 7), elements=st.floats(-4, 4, width=32))


@given(maps, st.sampled_from([0.0, 20.0, 35.0, 80.0]))
def test_every_cut_of_every_normalization(values: NDArray[np.float32], percentile: float) -> None:
    levels, cuts = joint_levels(values, HOW, percentile)
    for place, how in enumerate(HOW):
        gray = (255 * normalize(values, how, percentile=percentile)).astype(np.uint8)
        for cut in range(CUTS):
            np.testing.assert_array_equal(levels > cuts[place, cut], gray > cut)


def test_a_constant_map_has_no_foreground_under_minmax() -> None:
    levels, cuts = joint_levels(np.full((4, 4), 2.0, np.float32), HOW, 35.0)
    assert not (levels > cuts[0, 0]).any()
    assert (levels > cuts[1, 0]).all()


@pytest.mark.parametrize("bicubic", [False, True])
def test_resize_is_opencvs_for_a_squashed_photo(bicubic: bool) -> None:
    raw = np.random.default_rng(0).normal(size=(2, 3, 7, 7)).astype(np.float32)
    view = ViewMaps(from_numpy(raw), (Placement.identity(224, 224),) * 2)
    way = cv2.INTER_CUBIC if bicubic else cv2.INTER_LINEAR
    expected = cv2.resize(raw[1, 2], (GRID, GRID), interpolation=way)
    np.testing.assert_allclose(resize([view], 1, 2, bicubic=bicubic), expected, atol=1e-5)


def test_views_are_averaged() -> None:
    ones, threes = (
        ViewMaps(from_numpy(np.full((1, 1, side, side), value, np.float32)), (Placement.identity(224, 224),))
        for side, value in ((7, 1.0), (9, 3.0))
    )
    np.testing.assert_allclose(resize([ones, threes], 0, 0, bicubic=False), 2.0, atol=1e-6)
