"""What all normalizations of a map share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from dualcam.evaluation.input_maps import resize_maps
from dualcam.evaluation.shown import Shown
from dualcam.heatmap import normalize
from dualcam.metrics.fidelity.randomization import _similarity
from dualcam.types import Normalization

HOW: tuple[Normalization, ...] = ("minmax", "max", "ivr")
SIZE = (48, 40)


@given(arrays(np.float32, (2, 3, 4), elements=st.integers(-4, 6).map(float)), st.floats(0, 100))
def test_ranks_are_those_of_the_normalized_maps(raw: NDArray[np.float32], percentile: float) -> None:
    """Of maps whose values no rounding makes equal."""
    shown = Shown(raw, HOW, percentile)
    for column, how in enumerate(HOW):
        heats = np.stack([normalize(each, how, percentile=percentile) for each in raw])
        np.testing.assert_array_equal(shown.heats(column), heats)
        np.testing.assert_array_equal(shown.ranks(column), [stats.rankdata(each) - 1 for each in heats])


@pytest.mark.parametrize("seed", range(4))
def test_similarity_by_ranks_is_that_of_the_normalized_maps(seed: int) -> None:
    """Within 1e-6 of scipy's of the normalized maps' pixels, some of which rounding made equal."""
    generator = np.random.default_rng(seed)
    raw = generator.standard_normal((6, 7, 7)).astype(np.float32) + seed % 2
    plain = Shown(resize_maps(raw[:1], SIZE), HOW, 35.0)
    others = plain.redrawn(raw[1:])
    for column in range(len(HOW)):
        found = _similarity(np.concatenate((plain.ranks(column), others.ranks(column))))
        (heat,) = plain.heats(column)
        expected = [abs(stats.spearmanr(heat.ravel(), each.ravel())[0]) for each in others.heats(column)]
        assert found == pytest.approx(np.mean(expected), abs=1e-6)
