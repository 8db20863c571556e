"""Average Gain: the share of what the class's probability lacked that is won where the map covers the photo.

Zhang et al., Opti-CAM, CVIU 2024: 100 mean max(0, O - Y) / (1 - Y), with Y = p_k(x), O = p_k(x * M): the counterpart
of Average Drop.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualcam.metrics.fidelity import FidelityMetric, Measured
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.perturbations import MASKED


def average_gain(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    """Return 100 max(0, O - Y) / (1 - Y) in percent, [...], of probabilities Y ``before`` and O ``after``, [...].

    In [0, 100]; higher is better. Where Y is 1 there is nothing to win: 0. An all-ones map gives 0.
    """
    y, o = np.broadcast_arrays(np.asarray(before, np.float64), np.asarray(after, np.float64))
    won = np.maximum(o - y, 0)
    return np.asarray(100 * np.divide(won, 1 - y, out=np.where(np.isnan(won), np.nan, 0.0), where=y < 1))


def _score(measured: Measured, settings: FidelitySettings) -> float:
    return float(average_gain(measured.probability, measured.probabilities[MASKED][0]))


FIDELITY = FidelityMetric(
    name="average-gain",
    title="Average Gain",
    paper="Zhang et al., Opti-CAM: Optimizing Saliency Maps for Interpretability, CVIU 2024",
    unit="percent",
    better="higher",
    low=0,
    high=100,
    score=_score,
    asks=lambda settings: (MASKED,),
)
