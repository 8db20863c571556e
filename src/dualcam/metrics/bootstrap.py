"""Bootstrap intervals: of means, of paired differences, and of statistics of pooled counts.

All resample whole images and keep everything chosen beforehand as it is: thresholds, cuts and shares are not chosen
again in a resample. For MaxBoxAccV2 give `localization.v2_scores`, each image's share of deltas reached at fixed
thresholds; the interval then says what other images would give, not what another choice would.

Where an image stands there several times, as once for each of its labels, its items are not independent: ``groups``
names each item's image, and images are drawn, each with all of its items (the cluster bootstrap; Field & Welsh,
Bootstrapping clustered data, JRSS B 2007). A resample's mean is over the items that it holds. Where every item is an
image of its own, groups change no bit.
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


def mean_interval(
    values: ArrayLike, *, groups: ArrayLike | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Return the mean of ``values`` [N] with its 95 % percentile bootstrap interval over items (Efron, 1979).

    Items are drawn with replacement, whole: for a paired comparison pass one difference per item. N = 0 gives NaN.
    Items of equal ``groups`` [N] are drawn together.
    """
    column = np.asarray(values, dtype=np.float64)[:, None]
    return mean_intervals(column, groups=groups, resamples=resamples, seed=seed)[0]


def mean_intervals(
    values: ArrayLike, *, groups: ArrayLike | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """Return `mean_interval` of each column of ``values`` [N, K], all from the same draws of items."""
    items = np.asarray(values, dtype=np.float64)
    count = len(items)
    if not count:
        return [Interval(float("nan"), float("nan"), float("nan"), 0)] * items.shape[1]
    means = np.concatenate([drawn_means(draws, items) for draws in item_draws(count, resamples, seed, groups)])
    low, high = np.percentile(means, LEVELS, axis=0)
    here = items.mean(0)
    return [Interval(float(here[k]), float(low[k]), float(high[k]), count) for k in range(items.shape[1])]


def known_intervals(values: ArrayLike, *, groups: ArrayLike | None = None) -> list[Interval]:
    """Return `mean_interval` of each column of ``values`` [N, K] over the items that it knows: those not NaN.

    Columns that know the same items share their draws.
    """
    items = np.asarray(values, dtype=np.float64)
    patterns, which = np.unique(~np.isnan(items), axis=1, return_inverse=True)
    found: dict[int, Interval] = {}
    for number, known in enumerate(patterns.T):
        columns = np.flatnonzero(which.ravel() == number)
        part = None if groups is None else np.asarray(groups)[known]
        found |= zip(columns.tolist(), mean_intervals(items[np.ix_(known, columns)], groups=part), strict=True)
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
    groups: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return a statistic of counts summed over images, such as PxAP, with its interval over images.

    ``counts`` [N, ...] are the images' own, ``statistic`` takes sums [R, ...] to values [R] (`average_precision`).
    With ``baseline``, counts of the same images: the difference of the two statistics, both from the same draws. Sums
    are exact below 2^53. Resamples where the statistic is NaN are left out of the interval; N = 0 gives NaN. Items of
    equal ``groups`` [N] are drawn together.
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
    found = np.concatenate([value(draws) for draws in item_draws(len(ours), resamples, seed, groups)])
    if np.isnan(found).all():
        return Interval(here, float("nan"), float("nan"), len(ours))
    low, high = np.nanpercentile(found, LEVELS)
    return Interval(here, float(low), float(high), len(ours))


def item_draws(count: int, resamples: int, seed: int, groups: ArrayLike | None = None) -> Iterator[NDArray[np.int64]]:
    """Yield how often each item is drawn, [up to BLOCK, count]; all resamples at once need 16 kB an item.

    As many groups are drawn as ``groups`` [count] has, of which every item of a group is drawn as often as the group.
    """
    drawn, member = count, None
    if groups is not None:
        names, numbers = np.unique(np.asarray(groups), return_inverse=True)
        if len(numbers) != count:
            raise ValueError(f"groups name the group of each item; got {len(numbers)} for {count} items")
        if len(names) < count:
            drawn, member = len(names), numbers
    generator = np.random.default_rng(seed)
    shares = np.full(drawn, 1 / drawn)
    for start in range(0, resamples, BLOCK):
        draws = generator.multinomial(drawn, shares, size=min(BLOCK, resamples - start))
        yield draws if member is None else draws[:, member]


def drawn_means(draws: NDArray[np.int64], items: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means [R, K] of ``items`` [N, K], each item as often as ``draws`` [R, N] say."""
    return np.asarray((draws.astype(np.float64) @ items) / draws.sum(1, keepdims=True))


def weighted_sums(draws: NDArray[np.int64], counts: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the sums [R, ...] of ``counts`` [N, ...], each item as often as ``draws`` [R, N] say."""
    flat = counts.reshape(len(counts), -1)
    total = np.zeros((len(draws), flat.shape[1]))
    for start in range(0, len(flat), CHUNK):
        part = slice(start, start + CHUNK)
        total += draws[:, part].astype(np.float64) @ flat[part].astype(np.float64)
    return total.reshape(len(draws), *counts.shape[1:])
