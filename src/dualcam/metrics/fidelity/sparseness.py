"""Sparseness: how few pixels hold the map's energy, as a Gini index.

Chalasani et al., ICML 2020, section 6; the index of Hurley and Rickard, IEEE Trans. Information Theory 2009, eq. 1:
1 - 2 sum_i v_(i) / ||v||_1 (n - i + 1/2) / n, over the magnitudes v_(1) <= ... <= v_(n).
"""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualcam.metrics.fidelity import FidelityMetric, Measured
from dualcam.metrics.fidelity_settings import FidelitySettings


def sparseness(heat: ArrayLike) -> float:
    """Return the Gini index of the map's magnitudes, [H, W], n pixels, in [0, 1 - 1/n].

    Higher is sparser, which is called better; whether the map is right is not asked. 0 for a constant map, also an
    all-zero one; 1 - 1/n for a single pixel. It does not change with the map's scale.
    """
    given = np.asarray(heat)
    magnitudes = np.abs(given, dtype=np.result_type(given, np.float32)).ravel()
    magnitudes.sort()  # before the values are widened: the same order, sooner
    values = magnitudes.astype(np.float64)
    total, count = values.sum(), len(values)
    if not total > 0 or values[0] == values[-1]:
        return 0.0
    return max(0.0, float(1 - 2 * (values @ _shares(count)) / total))


@cache
def _shares(count: int) -> NDArray[np.float64]:
    """Return the share of pixels above each place of the order, [n], to the middle of the place's own."""
    return np.asarray((count - np.arange(count) - 0.5) / count)


def _score(measured: Measured, settings: FidelitySettings) -> float:
    return sparseness(measured.heat)


FIDELITY = FidelityMetric(
    name="sparseness",
    title="Sparseness",
    paper="Chalasani et al., Concise Explanations of Neural Networks using Adversarial Training, ICML 2020",
    unit="fraction",
    better="higher",
    low=0,
    high=1,
    score=_score,
)
