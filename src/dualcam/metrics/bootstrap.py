"""Bootstrap intervals: of means, of paired differences, and of statistics of pooled counts.

All resample whole images and keep everything chosen beforehand as it is: thresholds, cuts and shares are not chosen
again in a resample. For MaxBoxAccV2 give `localization.v2_scores`, each image's share of deltas reached at fixed
thresholds; the interval then says what other images would give, not what another choice would.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVELS = (2.5, 97.5)
BLOCK = 64
CHUNK = 4096
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A figure over ``n`` items and the ends of its 95 % percentile bootstrap interval, in the items' unit."""

    mean: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        spec = spec or ".3f"
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def mean_interval(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Return the mean of ``values`` [N] with its 95 % percentile bootstrap interval over items (Efron, 1979).

    Items are drawn with replacement, whole: for a paired comparison pass one difference per item. N = 0 gives NaN.
    """
    return mean_intervals(np.asarray(values, dtype=np.float64)[:, None], resamples=resamples, seed=seed)[0]


def mean_intervals(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Interval]:
    """Return `mean_interval` of each column of ``values`` [N, K], all from the same draws of items."""
    items = np.asarray(values, dtype=np.float64)
    count = len(items)
    if not count:
        return [Interval(float("nan"), float("nan"), float("nan"), 0)] * items.shape[1]
    means = np.concatenate([draws.astype(np.float64) @ items for draws in item_draws(count, resamples, seed)]) / count
    low, high = np.percentile(means, LEVELS, axis=0)
    here = items.mean(0)
    return [Interval(float(here[k]), float(low[k]), float(high[k]), count) for k in range(items.shape[1])]


def known_intervals(values: ArrayLike) -> list[Interval]:
    """Return `mean_interval` of each column of ``values`` [N, K] over the items that it knows: those not NaN.

    Columns that know the same items share their draws.
    """
    items = np.asarray(values, dtype=np.float64)
    patterns, which = np.unique(~np.isnan(items), axis=1, return_inverse=True)
    found: dict[int, Interval] = {}
    for number, known in enumerate(patterns.T):
        columns = np.flatnonzero(which.ravel() == number)
        found |= zip(columns.tolist(), mean_intervals(items[np.ix_(known, columns)]), strict=True)
    return [found[column] for column in range(items.shape[1])]


def paired_difference(ours: ArrayLike, baseline: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Return the mean of ``ours`` - ``baseline``, [N] each of the same items in the same order, with its interval."""
    first, second = np.asarray(ours, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"a paired difference takes the same items twice; got {first.shape} and {second.shape}")
    return mean_interval(first - second, resamples=resamples, seed=seed)


def pooled_interval(
    counts: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    baseline: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return a statistic of counts summed over images, such as PxAP, with its interval over images.

    ``counts`` [N, ...] are the images' own, ``statistic`` takes sums [R, ...] to values [R] (`average_precision`).
    With ``baseline``, counts of the same images: the difference of the two statistics, both from the same draws. Sums
    are exact below 2^53. Resamples where the statistic is NaN are left out of the interval; N = 0 gives NaN.
    """
    ours = np.asarray(counts)
    if baseline is not None and np.shape(baseline) != ours.shape:
        raise ValueError(f"a paired difference takes the same images twice; got {ours.shape}, {np.shape(baseline)}")
    if not len(ours):
        return Interval(float("nan"), float("nan"), float("nan"), 0)

    def value(draws: NDArray[np.int64]) -> NDArray[np.float64]:
        found = statistic(weighted_sums(draws, ours))
        return found if baseline is None else found - statistic(weighted_sums(draws, np.asarray(baseline)))

    here = float(value(np.ones((1, len(ours)), dtype=np.int64))[0])
    found = np.concatenate([value(draws) for draws in item_draws(len(ours), resamples, seed)])
    if np.isnan(found).all():
        return Interval(here, float("nan"), float("nan"), len(ours))
    low, high = np.nanpercentile(found, LEVELS)
    return Interval(here, float(low), float(high), len(ours))


def item_draws(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield how often each item is drawn, [up to BLOCK, count]; all resamples at once need 16 kB an item."""
    generator = np.random.default_rng(seed)
    shares = np.full(count, 1 / count)
    for start in range(0, resamples, BLOCK):
        yield generator.multinomial(count, shares, size=min(BLOCK, resamples - start))


def weighted_sums(draws: NDArray[np.int64], counts: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the sums [R, ...] of ``counts`` [N, ...], each item as often as ``draws`` [R, N] say."""
    flat = counts.reshape(len(counts), -1)
    total = np.zeros((len(draws), flat.shape[1]))
    for start in range(0, len(flat), CHUNK):
        part = slice(start, start + CHUNK)
        total += draws[:, part].astype(np.float64) @ flat[part].astype(np.float64)
    return total.reshape(len(draws), *counts.shape[1:])
