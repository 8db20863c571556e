"""Average Drop: the share of the class's probability that is lost where the map covers the photo.

Chattopadhyay et al., WACV 2018, section 4.1: 100 mean max(0, Y - O) / Y, with Y = p_k(x), O = p_k(x * M).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualcam.metrics.fidelity import FidelityMetric, Measured
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.perturbations import MASKED


def average_drop(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    """Return 100 max(0, Y - O) / Y in percent, [...], of probabilities Y ``before`` and O ``after``, [...].

    In [0, 100]; lower is better. Where Y is 0 there is nothing to lose: 0. An all-ones map gives 0, an all-zero map
    what a black (or, normalized, a mean-colored) photo gives. It rewards maps that cover much.
    """
    y, o = np.broadcast_arrays(np.asarray(before, np.float64), np.asarray(after, np.float64))
    lost = np.maximum(y - o, 0)
    return np.asarray(100 * np.divide(lost, y, out=np.where(np.isnan(lost), np.nan, 0.0), where=y > 0))


def _score(measured: Measured, settings: FidelitySettings) -> float:
    return float(average_drop(measured.probability, measured.probabilities[MASKED][0]))


FIDELITY = FidelityMetric(
    name="average-drop",
    title="Average Drop",
    paper="Chattopadhyay et al., Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks, WACV 2018",
    unit="percent",
    better="lower",
    low=0,
    high=100,
    score=_score,
    asks=lambda settings: (MASKED,),
)
