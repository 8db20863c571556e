"""Increase in Confidence: how often the class is more probable where the map covers the photo.

Chattopadhyay et al., WACV 2018, section 4.1: 100 mean [Y < O], with Y = p_k(x), O = p_k(x * M).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualcam.metrics.fidelity import FidelityMetric, Measured
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.perturbations import MASKED


def increase(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    """Return 100 where O > Y and else 0, in percent, [...], of probabilities Y ``before`` and O ``after``, [...].

    Higher is better. Equal probabilities are no increase, so an all-ones map gives 0, and so does Y = 1. NaN stays NaN.
    """
    y, o = np.asarray(before, np.float64), np.asarray(after, np.float64)
    return np.where(np.isnan(y) | np.isnan(o), np.nan, 100.0 * (o > y))


def _score(measured: Measured, settings: FidelitySettings) -> float:
    return float(increase(measured.probability, measured.probabilities[MASKED][0]))


FIDELITY = FidelityMetric(
    name="increase",
    title="Increase in Confidence",
    paper="Chattopadhyay et al., Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks, WACV 2018",
    unit="percent",
    better="higher",
    low=0,
    high=100,
    score=_score,
    asks=lambda settings: (MASKED,),
)
