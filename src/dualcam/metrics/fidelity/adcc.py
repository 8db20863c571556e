"""ADCC: a map that keeps the probability, is its own map's map, and covers little; bad at one, bad in all.

Poppi et al., CVPRW 2021, section 3: 3 / (1 / Coherency + 1 / (1 - Complexity) + 1 / (1 - Average Drop)).
"""

import numpy as np

from dualcam.metrics.fidelity import FidelityMetric, Measured
from dualcam.metrics.fidelity.average_drop import average_drop
from dualcam.metrics.fidelity.coherency import coherency
from dualcam.metrics.fidelity.complexity import complexity
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.perturbations import MASKED


def adcc(drop: float, coherent: float, complex_: float) -> float:
    """Return the harmonic mean of 100 - Average Drop, Coherency and 100 - Complexity, all in percent.

    In [0, 100]; higher is better; 0 where one of the three is 0 (an all-zero map has no coherency, an all-ones map
    the full complexity). It is made a photo: the mean over photos is not the harmonic mean of the means.
    """
    parts = (100 - drop, coherent, 100 - complex_)
    return min(100.0, 3 / sum(1 / part for part in parts)) if min(parts) > 0 else 0.0


def _score(measured: Measured, settings: FidelitySettings) -> float:
    drop = average_drop(measured.probability, measured.probabilities[MASKED][0])
    if np.isnan(drop):
        return float("nan")
    return adcc(float(drop), coherency(measured.heat, measured.maps[MASKED][0]), float(complexity(measured.heat)))


FIDELITY = FidelityMetric(
    name="adcc",
    title="ADCC",
    paper="Poppi et al., Revisiting the Evaluation of Class Activation Mapping for Explainability, CVPRW 2021",
    unit="percent",
    better="higher",
    low=0,
    high=100,
    score=_score,
    asks=lambda settings: (MASKED,),
    explains=lambda settings: (MASKED,),
)
