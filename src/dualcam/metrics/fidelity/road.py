"""ROAD: what removing the hottest pixels costs the class more than removing the coldest.

Rong et al., ICML 2022: removed pixels are filled from their neighbors, with a little noise (noisy linear imputation),
so that neither foreign colors nor the removed region's shape speak for the class. The paper draws accuracy against the
share removed, most relevant first (MoRF) and least relevant first (LeRF). Here p_k takes accuracy's place, so that one
photo has a figure, and both orders make one, as in pytorch-grad-cam: mean over percentages of (p_LeRF - p_MoRF) / 2.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualcam.metrics.fidelity import FidelityMetric, Measured
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.perturbations import LEAST_RELEVANT_IMPUTED, MOST_RELEVANT_IMPUTED


def road(least_removed: ArrayLike, most_removed: ArrayLike) -> NDArray[np.float64]:
    """Return the mean over percentages of (p_LeRF - p_MoRF) / 2, [...], of probabilities [..., S] each.

    In [-0.5, 0.5]; higher is better; 0 is what a map unrelated to the class gets on average. Only the order of the
    map's values matters; ties, and so a whole constant map, go in reading order.
    """
    return np.asarray((np.asarray(least_removed, np.float64) - np.asarray(most_removed, np.float64)).mean(-1) / 2)


def _score(measured: Measured, settings: FidelitySettings) -> float:
    probabilities = measured.probabilities
    return float(road(probabilities[LEAST_RELEVANT_IMPUTED], probabilities[MOST_RELEVANT_IMPUTED]))


FIDELITY = FidelityMetric(
    name="road",
    title="ROAD",
    paper="Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022",
    unit="fraction",
    better="higher",
    low=-0.5,
    high=0.5,
    score=_score,
    asks=lambda settings: (LEAST_RELEVANT_IMPUTED, MOST_RELEVANT_IMPUTED),
)
