"""Intervals over photos and seeds, against obvious loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dualcam.ablation.effects import SEED_STREAM, Sampled, difference, estimate, sample_means, sample_pooled
from dualcam.metrics.bootstrap import mean_interval, pooled_interval
from dualcam.metrics.pixel_ap import average_precision

SEEDS, PHOTOS, RESAMPLES = 3, 17, 130


def values(number: int, *, scale: float = 1.0) -> NDArray[np.float64]:
    return np.random.default_rng(number).normal(size=(SEEDS, PHOTOS)) * scale + number


def naive_draws() -> list[tuple[list[int], list[int]]]:
    """Return how often each photo and each seed is drawn, resample by resample."""
    photos, seeds = np.random.default_rng(0), np.random.default_rng((0, SEED_STREAM))
    found = []
    for _ in range(RESAMPLES):
        drawn = photos.multinomial(PHOTOS, [1 / PHOTOS] * PHOTOS).tolist()
        found.append((drawn, seeds.multinomial(SEEDS, [1 / SEEDS] * SEEDS).tolist()))
    return found


def naive_interval(table: NDArray[np.float64]) -> tuple[float, float]:
    """Repeat every value as often as its photo and its seed were drawn, and average."""
    means = []
    for photos, seeds in naive_draws():
        drawn = [
            table[seed, photo]
            for seed in range(SEEDS)
            for _ in range(seeds[seed])
            for photo in range(PHOTOS)
            for _ in range(photos[photo])
        ]
        assert len(drawn) == SEEDS * PHOTOS
        means.append(sum(drawn) / len(drawn))
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def test_a_figure_is_its_naive_bootstrap() -> None:
    table = values(1)
    (sampled,) = sample_means([table], resamples=RESAMPLES)
    found = estimate(sampled)
    assert (found.low, found.high) == pytest.approx(naive_interval(table), abs=1e-12)
    assert found.mean == pytest.approx(table.mean(), abs=1e-12)
    assert found.spread == pytest.approx(np.std([table[s].mean() for s in range(SEEDS)], ddof=1), abs=1e-12)
    assert (found.photos, found.seeds) == (PHOTOS, SEEDS)


def test_an_effect_is_the_naive_bootstrap_of_paired_differences() -> None:
    tables = {"a": values(1), "b": values(2), "c": values(3), "d": values(4)}
    sampled = dict(zip(tables, sample_means(list(tables.values()), resamples=RESAMPLES), strict=True))
    found = estimate(difference(sampled, [("a", "b"), ("c", "d")]))
    paired = np.array(
        [
            [
                ((tables["b"][s, n] - tables["a"][s, n]) + (tables["d"][s, n] - tables["c"][s, n])) / 2
                for n in range(PHOTOS)
            ]
            for s in range(SEEDS)
        ]
    )
    assert found.mean == pytest.approx(paired.mean(), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(naive_interval(paired), abs=1e-12)


def test_one_seed_is_the_bootstrap_over_photos() -> None:
    table = values(1)[:1]
    found = estimate(sample_means([table], resamples=500)[0])
    known = mean_interval(table[0], resamples=500)
    assert (found.mean, found.low, found.high) == pytest.approx((known.mean, known.low, known.high), abs=1e-12)
    assert np.isnan(found.spread)


def test_pixels_are_pooled_within_each_seed() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (SEEDS, PHOTOS, 2, 12))
    alone = [estimate(sample_pooled([counts[s]], average_precision, resamples=200)) for s in range(SEEDS)]
    for seed, found in enumerate(alone):
        known = pooled_interval(counts[seed], average_precision, resamples=200)
        assert (found.mean, found.low, found.high) == pytest.approx((known.mean, known.low, known.high), abs=1e-9)
    together = estimate(sample_pooled(list(counts), average_precision, resamples=200))
    assert together.mean == pytest.approx(np.mean([found.mean for found in alone]), abs=1e-9)


def test_seeds_alone_make_an_interval_and_photos_alone_do() -> None:
    by_seed = np.repeat([[0.0], [1.0], [5.0]], PHOTOS, axis=1)
    by_photo = np.repeat(np.arange(float(PHOTOS))[None], SEEDS, axis=0)
    seeds, photos = (estimate(item) for item in sample_means([by_seed, by_photo]))
    assert (seeds.low, seeds.high) == (0, 5)
    assert seeds.spread == pytest.approx(np.std([0, 1, 5], ddof=1))
    assert photos.spread == 0
    assert photos.low < photos.mean < photos.high


@given(st.integers(0, 99), st.floats(-5, 5))
def test_a_constant_gain_has_no_width(number: int, gain: float) -> None:
    """Pairing takes out what photos and seeds have in common."""
    table = values(number, scale=10)
    sampled = dict(zip("ab", sample_means([table, table + gain], resamples=50), strict=True))
    found = estimate(difference(sampled, [("a", "b")]))
    assert (found.mean, found.low, found.high) == pytest.approx((gain, gain, gain), abs=1e-9)


def test_a_photo_that_one_figure_can_not_judge_is_left_out_of_all() -> None:
    first, second = values(1), values(2)
    second[1, 4] = np.nan
    kept = np.delete(np.arange(PHOTOS), 4)
    both = sample_means([first, second], resamples=RESAMPLES)
    alone = sample_means([first[:, kept], second[:, kept]], resamples=RESAMPLES)
    for ours, theirs in zip(both, alone, strict=True):
        assert estimate(ours) == estimate(theirs)
        assert ours.photos == PHOTOS - 1


def test_no_photos_give_no_figure() -> None:
    found = estimate(sample_means([np.full((SEEDS, 4), np.nan)], resamples=10)[0])
    assert np.isnan([found.mean, found.low, found.high]).all()
    assert (found.photos, found.differs) == (0, False)


def test_an_interval_that_leaves_zero_out_differs() -> None:
    sampled = Sampled(np.array([1.0]), np.linspace(0.5, 1.5, 100)[:, None], 3)
    assert estimate(sampled).differs
    assert not estimate(Sampled(np.array([0.1]), np.linspace(-1, 1, 100)[:, None], 3)).differs


def test_places_of_one_photo_are_drawn_together() -> None:
    table = values(1)
    numbers = np.repeat(np.arange(table.shape[1]), 3)
    known, found = (
        estimate(sample_means([each], groups=groups, resamples=200)[0])
        for each, groups in ((table, None), (np.repeat(table, 3, axis=1), numbers))
    )
    assert (found.mean, found.low, found.high) == pytest.approx((known.mean, known.low, known.high))
    counts = np.random.default_rng(1).integers(0, 9, (SEEDS, PHOTOS, 2, 12))
    numbers = np.repeat(np.arange(PHOTOS), 3)
    known, found = (
        estimate(sample_pooled(list(each), average_precision, groups=groups, resamples=200))
        for each, groups in ((counts, None), (np.repeat(counts, 3, axis=1), numbers))
    )
    assert (found.mean, found.low, found.high) == pytest.approx((known.mean, known.low, known.high))
