"""Means with bootstrap intervals; of paired differences, give the differences."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` items and the ends of its 95 % percentile bootstrap interval, in the items' unit."""

    mean: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        spec = spec or ".3f"
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def mean_interval(values: ArrayLike, *, resamples: int = 2000, seed: int = 0) -> Interval:
    """Return the mean of ``values`` [N] with its 95 % percentile bootstrap interval over items (Efron, 1979).

    Items are drawn with replacement, whole: for a paired comparison pass one difference per item. N = 0 gives NaN.
    """
    items = np.asarray(values, dtype=np.float64)
    if not len(items):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    counts = np.random.default_rng(seed).multinomial(len(items), np.full(len(items), 1 / len(items)), size=resamples)
    means = counts @ items / len(items)
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(items.mean()), float(low), float(high), len(items))
