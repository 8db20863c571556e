"""Normalization: ranges, formulas written out, and maps with nothing to show."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from dualcam.errors import ChoiceError
from dualcam.heatmap import SAMPLE, _percentile, floor_of, normalize
from dualcam.types import Normalization

HOW: list[Normalization] = ["max", "minmax", "ivr"]
Map = NDArray[np.float32]
values = arrays.arrays("float32", (4, 5), elements=st.floats(-100, 100, width=32))


@pytest.mark.parametrize("how", HOW)
@given(raw=values)
def test_range(how: Normalization, raw: Map) -> None:
    kept = raw.copy()
    shown = normalize(raw, how)
    assert shown.dtype == np.float32
    assert shown.shape == raw.shape
    assert shown.min() >= 0
    assert shown.max() in (0, 1)
    assert np.array_equal(raw, kept)


@given(values)
def test_max_divides_the_positive_part(raw: Map) -> None:
    assume(raw.max() > 1e-3)
    np.testing.assert_allclose(normalize(raw, "max"), np.where(raw > 0, raw, 0) / raw.max(), rtol=1e-5)


@pytest.mark.parametrize("how", HOW)
@given(raw=values)
def test_the_floor_is_what_becomes_zero(how: Normalization, raw: Map) -> None:
    raw = raw.round(3)  # next to large values the smallest ones are lost when they are divided
    shown, floor = normalize(raw, how), floor_of(raw, how)
    assert not shown[raw <= floor].any()
    if shown.any():
        assert shown[raw > floor].all()


@given(values)
def test_minmax_reaches_both_ends(raw: Map) -> None:
    assume(raw.max() - raw.min() > 1e-3)
    shown = normalize(raw, "minmax")
    assert shown.min() == 0
    assert shown.max() == 1
    np.testing.assert_allclose(shown, (raw - raw.min()) / (raw.max() - raw.min()), atol=1e-5)


@given(values, st.integers(0, 90))
def test_ivr_cuts_at_the_percentile(raw: Map, percentile: int) -> None:
    floor = np.percentile(raw.astype(np.float64), percentile)
    lifted = np.maximum(raw - floor, 0)
    assume(lifted.max() > 1e-2)
    np.testing.assert_allclose(normalize(raw, "ivr", percentile=percentile), lifted / lifted.max(), atol=1e-3)


def test_ivr_of_percentile_zero_is_minmax_and_35_is_the_default() -> None:
    raw = np.linspace(-3, 5, 20, dtype=np.float32).reshape(4, 5)
    np.testing.assert_allclose(normalize(raw, "ivr", percentile=0), normalize(raw, "minmax"))
    assert (normalize(raw, "ivr") == 0).sum() == 7
    assert np.array_equal(normalize(raw, "ivr"), normalize(raw, "ivr", percentile=35))


@pytest.mark.parametrize("how", HOW)
@given(raw=values, scale=st.sampled_from([0.25, 2.0, 64.0]))
def test_scale_does_not_matter(how: Normalization, raw: Map, scale: float) -> None:
    assume(raw.max() - raw.min() > 1e-3)
    np.testing.assert_allclose(normalize(np.float32(scale) * raw, how), normalize(raw, how), atol=1e-5)


@pytest.mark.parametrize("how", HOW)
def test_zeros_give_zeros(how: Normalization) -> None:
    assert not normalize(np.zeros((3, 3), np.float32), how).any()


@pytest.mark.parametrize("constant", [-2.0, 0.1, 1e-30, 3e38])
@pytest.mark.parametrize("how", ["minmax", "ivr"])
def test_a_constant_map_has_nothing_to_show(how: Normalization, constant: float) -> None:
    assert not normalize(np.full((3, 3), constant, np.float32), how).any()


def test_a_map_without_positive_values_has_nothing_to_show_under_max() -> None:
    raw = -np.arange(9, dtype=np.float32).reshape(3, 3)
    assert not normalize(raw, "max").any()
    assert normalize(raw, "minmax").max() == 1


def test_broken_numbers_do_not_become_a_heat_map() -> None:
    raw = np.array([[np.nan, 1], [2, 3]], np.float32)
    with np.errstate(invalid="ignore"):
        assert not normalize(raw, "max").any()
        assert not normalize(np.array([[np.inf, 1]], np.float32), "max").any()


def test_unknown_normalization_names_the_choices() -> None:
    with pytest.raises(ChoiceError, match=r"'softmax'.*'max', 'minmax', 'ivr'"):
        normalize(np.ones((2, 2), np.float32), "softmax")  # type: ignore[arg-type]


@given(values, st.floats(0, 100))
def test_the_quick_percentile_is_numpys(raw: Map, percentile: float) -> None:
    assert _percentile(raw, percentile) == pytest.approx(float(np.percentile(raw, percentile)), abs=1e-4)


@pytest.mark.parametrize("percentile", [0, 0.1, 35, 50, 99.99, 100])
@pytest.mark.parametrize("name", ["smooth", "noise", "levels", "constant", "peak", "stripes"])
def test_the_percentile_lies_between_the_values_that_all_pixels_have(name: str, percentile: float) -> None:
    """To the bit, also where the sample misleads: stripes as wide as its step, a peak that it misses."""
    generator = np.random.default_rng(3)
    count = 224 * 224
    raw = {
        "smooth": np.sin(np.arange(count) / 4000) * np.cos(np.arange(count) % 224 / 50),
        "noise": generator.standard_normal(count),
        "levels": generator.integers(0, 4, count),
        "constant": np.full(count, 0.1),
        "peak": np.eye(count, 1, -1).ravel(),
        "stripes": np.arange(count) % (count // SAMPLE + 1) == 0,
    }[name].astype(np.float32)
    rank = percentile / 100 * (count - 1)
    lower, upper = (float(np.sort(raw)[min(int(rank) + more, count - 1)]) for more in (0, 1))
    assert _percentile(raw.reshape(224, 224), percentile) == lower + (upper - lower) * (rank - int(rank))
