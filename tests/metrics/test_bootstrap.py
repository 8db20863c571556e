"""Intervals against resamples drawn one at a time."""

from dataclasses import astuple

import numpy as np
import pytest

from dualcam.metrics.bootstrap import known_intervals, mean_interval, mean_intervals, paired_difference, pooled_interval
from dualcam.metrics.pixel_ap import BINS, average_precision


def test_a_mean_is_the_same_as_a_pooled_ratio() -> None:
    values = np.random.default_rng(1).random(30)
    counts = np.stack([values, np.ones(30)], axis=1)
    pooled = pooled_interval(counts, lambda sums: sums[:, 0] / sums[:, 1])
    alone = mean_interval(values)
    np.testing.assert_allclose([pooled.mean, pooled.low, pooled.high], [alone.mean, alone.low, alone.high])
    assert pooled.n == alone.n == 30


def test_the_interval_is_that_of_resampled_items() -> None:
    values = np.random.default_rng(1).normal(size=200)
    generator = np.random.default_rng(2)
    means = [values[generator.integers(0, 200, 200)].mean() for _ in range(4000)]
    interval = mean_interval(values, resamples=4000)
    np.testing.assert_allclose([interval.low, interval.high], np.percentile(means, (2.5, 97.5)), atol=0.015)


def test_columns_are_alone_as_together() -> None:
    values = np.random.default_rng(5).random((40, 3))
    for column, together in zip(values.T, mean_intervals(values), strict=True):
        alone = mean_interval(column)
        assert together.n == alone.n
        np.testing.assert_allclose([together.mean, together.low, together.high], [alone.mean, alone.low, alone.high])
    assert np.isnan([interval.low for interval in mean_intervals(np.zeros((0, 3)))]).tolist() == [True] * 3


def test_pairing_removes_what_is_common() -> None:
    generator = np.random.default_rng(3)
    common = generator.normal(size=100)
    difference = paired_difference(common + 0.1, common)
    assert difference.low == pytest.approx(0.1)
    assert difference.high == pytest.approx(0.1)
    counts = generator.integers(0, 9, (20, 2, BINS))
    same = pooled_interval(counts, average_precision, baseline=counts, resamples=100)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_pooled_precision_is_that_of_the_sum() -> None:
    counts = np.random.default_rng(4).integers(0, 9, (20, 2, BINS)).astype(np.uint16)
    interval = pooled_interval(counts, average_precision, resamples=100)
    assert interval.mean == average_precision(counts.sum(0, dtype=np.int64))
    assert interval.low < interval.mean < interval.high


def test_few_and_unlike_items() -> None:
    assert np.isnan(pooled_interval(np.zeros((0, 2, BINS)), average_precision).mean)
    assert np.isnan(pooled_interval(np.zeros((3, 2, BINS)), average_precision, resamples=5).low)
    with pytest.raises(ValueError, match="same items"):
        paired_difference([1, 2], [1])
    with pytest.raises(ValueError, match="same images"):
        pooled_interval(np.zeros((2, 3)), average_precision, baseline=np.zeros((1, 3)))


def test_what_a_column_does_not_know_is_left_out_of_it_alone() -> None:
    values = np.random.default_rng(6).random((30, 4))
    values[::3, 1] = values[::3, 3] = values[:, 2] = np.nan
    found = known_intervals(values)
    for column in (0, 1, 3):
        alone = mean_interval(values[~np.isnan(values[:, column]), column])
        assert astuple(found[column]) == pytest.approx(astuple(alone))
    assert [each.n for each in found] == [30, 20, 0, 20]
    assert np.isnan(found[2].mean)


def test_labels_that_repeat_their_photo_add_nothing() -> None:
    """Five labels that always agree are as good as their photo: its interval, not one that is narrower by sqrt(5)."""
    photos = np.random.default_rng(7).random(60)
    numbers = np.repeat(np.arange(60), 5)
    labels = photos[numbers]
    plain, together, apart = mean_interval(photos), mean_interval(labels, groups=numbers), mean_interval(labels)
    assert astuple(together)[:3] == pytest.approx(astuple(plain)[:3])
    assert (together.n, together.mean) == (300, apart.mean)
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_groups_are_drawn_whole_whatever_their_size() -> None:
    """Against groups drawn one at a time; means are over the items that a resample holds."""
    generator = np.random.default_rng(8)
    groups = np.sort(generator.integers(0, 25, 80))[generator.permutation(80)]
    values = generator.normal(size=80) + groups / 10
    parts = [values[groups == name] for name in np.unique(groups)]
    picks = generator.integers(0, len(parts), (6000, len(parts)))
    means = [np.concatenate([parts[pick] for pick in draw]).mean() for draw in picks]
    found = mean_interval(values, groups=groups, resamples=6000)
    np.testing.assert_allclose([found.low, found.high], np.percentile(means, (2.5, 97.5)), atol=0.03)
    pooled = pooled_interval(
        np.stack([values, np.ones(80)], 1), lambda sums: sums[:, 0] / sums[:, 1], groups=groups, resamples=6000
    )
    assert astuple(pooled) == pytest.approx(astuple(found))


def test_groups_of_one_change_no_bit() -> None:
    values = np.random.default_rng(9).random((50, 3))
    values[::4, 1] = np.nan
    numbers = np.random.default_rng(10).permutation(50)
    assert known_intervals(values, groups=numbers) == known_intervals(values)
    counts = np.random.default_rng(11).integers(0, 9, (50, 2, BINS))
    alone, grouped = (
        pooled_interval(counts, average_precision, groups=groups, resamples=50) for groups in (None, numbers)
    )
    assert alone == grouped
    with pytest.raises(ValueError, match="got 2 for 50 items"):
        mean_interval(values[:, 0], groups=[0, 1])
