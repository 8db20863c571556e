"""The order of a map's values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from dualcam.metrics.order import average_ranks, clipped_ranks, rising_order

SPECIAL = st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0, float("inf"), -float("inf"), 3.4e38])
SINGLE = arrays(np.float32, st.integers(1, 60), elements=SPECIAL | st.floats(width=32, allow_nan=False))
LEVELS = arrays(np.float32, st.integers(1, 60), elements=st.integers(-3, 3).map(float))


@given(SINGLE | LEVELS)
def test_equal_values_keep_their_places(values: NDArray[np.float32]) -> None:
    expected = sorted(range(len(values)), key=lambda place: (values.tolist()[place], place))
    for given_ in (values, values.astype(np.float64)):
        assert rising_order(given_).tolist() == expected
    np.testing.assert_array_equal(average_ranks(values), stats.rankdata(values) - 1)


def test_no_number_is_beyond_all_numbers() -> None:
    values = np.array([np.nan, np.inf, -1, np.nan], np.float32)
    assert rising_order(values).tolist() == rising_order(values.astype(np.float64)).tolist() == [2, 1, 0, 3]


def test_a_whole_map() -> None:
    values = np.random.default_rng(0).standard_normal(50176).astype(np.float32)
    np.testing.assert_array_equal(rising_order(values), np.argsort(values, kind="stable"))


@given(LEVELS, st.integers(-4, 4))
def test_clipped_ranks_are_those_of_the_clipped_map(values: NDArray[np.float32], floor: int) -> None:
    hidden = int(np.count_nonzero(values <= floor))
    found = clipped_ranks(average_ranks(values), hidden)
    np.testing.assert_array_equal(found, average_ranks(np.maximum(values, np.float32(floor))))
    assert found.sum() == pytest.approx(len(values) * (len(values) - 1) / 2)
