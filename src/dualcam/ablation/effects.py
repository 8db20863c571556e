"""Figures over photos and seeds, and what changes them: pure maths on per-photo values.

Every seed judges the same photos, so photos and seeds are crossed. A resample draws both, independently of each
other, and weighs photo n under seed s by the product of how often each was drawn (Owen, The pigeonhole bootstrap,
Annals of Applied Statistics 2007: for crossed factors no bootstrap is exact, and this one errs on the side of wide
intervals). All figures share the same draws, so a difference of two is paired, photo by photo and seed by seed.
Thresholds are chosen beforehand, per seed, and stay as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dualcam.metrics.bootstrap import LEVELS, drawn_means, item_draws, weighted_sums

RESAMPLES = 1000
SEED_STREAM = 1
Key = TypeVar("Key")
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Sampled:
    """A figure by seed: of the ``photos`` themselves, [S], and of resamples of them, [R, S]."""

    here: NDArray[np.float64]
    resampled: NDArray[np.float64]
    photos: int


@dataclass(frozen=True)
class Estimate:
    """A figure's mean over seeds, its 95 % interval over photos and seeds, and its deviation over seeds alone.

    ``spread`` is the sample standard deviation of the S seeds' figures (NaN of one).
    """

    mean: float
    low: float
    high: float
    spread: float
    photos: int
    seeds: int

    @property
    def differs(self) -> bool:
        """Whether zero lies outside of the interval."""
        return self.low > 0 or self.high < 0

    def reversed(self) -> "Estimate":
        """Return the same difference, taken the other way round."""
        return replace(self, mean=-self.mean, low=-self.high, high=-self.low)


def sample_means(
    values: Sequence[NDArray[np.floating]], *, groups: NDArray[np.int64] | None = None, resamples: int = RESAMPLES
) -> list[Sampled]:
    """Return the means over photos of ``values``, [S, N] each, all under the same draws of photos.

    A photo that stands there several times has one number in ``groups`` [N] and is drawn with all its places.
    A photo that is NaN under any seed of any of them is left out of all: it can not be paired.
    """
    table = np.stack(values).astype(np.float64)  # [K, S, N]
    known = ~np.isnan(table).any((0, 1))
    kept, groups = table[:, :, known], None if groups is None else groups[known]
    columns = np.moveaxis(kept, 2, 0).reshape(kept.shape[2], table.shape[0] * table.shape[1])
    count = len(columns)
    if not count:
        blank = np.full((len(values), table.shape[1]), np.nan)
        return [Sampled(row, np.tile(row, (resamples, 1)), 0) for row in blank]
    means = np.concatenate([drawn_means(draws, columns) for draws in item_draws(count, resamples, 0, groups)])
    shaped = means.reshape(resamples, len(values), -1)
    return [Sampled(kept[k].mean(1), shaped[:, k], count) for k in range(len(values))]


def sample_pooled(
    counts: Sequence[NDArray[np.generic]],
    statistic: Statistic,
    *,
    groups: NDArray[np.int64] | None = None,
    resamples: int = RESAMPLES,
) -> Sampled:
    """Return a statistic of counts summed over photos, of S seeds with [N, ...] each; see `pooled_interval`."""
    photos = len(counts[0])
    whole = np.ones((1, photos), dtype=np.int64)
    here = np.array([statistic(weighted_sums(whole, seed))[0] for seed in counts])
    by_seed = [
        np.concatenate([statistic(weighted_sums(draws, seed)) for draws in item_draws(photos, resamples, 0, groups)])
        for seed in counts
    ]
    return Sampled(here, np.stack(by_seed, 1), photos)


def estimate(sampled: Sampled) -> Estimate:
    """Return the mean over seeds with its interval: seeds are drawn with replacement as well."""
    resamples, seeds = sampled.resampled.shape
    generator = np.random.default_rng((0, SEED_STREAM))
    weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    low, high = np.percentile((weights * sampled.resampled).sum(1), LEVELS)
    spread = float(sampled.here.std(ddof=1)) if seeds > 1 else float("nan")
    return Estimate(float(sampled.here.mean()), float(low), float(high), spread, sampled.photos, seeds)


def difference(figures: Mapping[Key, Sampled], pairs: Sequence[tuple[Key, Key]]) -> Sampled:
    """Return the mean over ``pairs`` (before, after) of the figure after less the figure before."""
    first = figures[pairs[0][0]]
    here, resampled = np.zeros_like(first.here), np.zeros_like(first.resampled)
    for before, after in pairs:
        here = here + (figures[after].here - figures[before].here)
        resampled = resampled + (figures[after].resampled - figures[before].resampled)
    return Sampled(here / len(pairs), resampled / len(pairs), first.photos)
