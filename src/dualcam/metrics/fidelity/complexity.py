"""Complexity, a part of ADCC: how much of the photo the map covers.

Poppi et al., CVPRW 2021, section 3: the map's L1 norm over the number of pixels.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualcam.metrics.fidelity import FidelityMetric, Measured
from dualcam.metrics.fidelity_settings import FidelitySettings


def complexity(heat: ArrayLike) -> NDArray[np.float64]:
    """Return 100 mean |M| in percent, [...], of maps [..., H, W] in [0, 1].

    In [0, 100]; lower is better, and by itself best where nothing is shown: an all-zero map has 0, an all-ones map 100.
    """
    return np.asarray(100 * np.abs(np.asarray(heat, np.float64)).mean((-2, -1)))


def _score(measured: Measured, settings: FidelitySettings) -> float:
    return float(complexity(measured.heat))


FIDELITY = FidelityMetric(
    name="complexity",
    title="Complexity",
    paper="Poppi et al., Revisiting the Evaluation of Class Activation Mapping for Explainability, CVPRW 2021",
    unit="percent",
    better="lower",
    low=0,
    high=100,
    score=_score,
)
