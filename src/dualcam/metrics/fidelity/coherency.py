"""Coherency, a part of ADCC: whether the map of what it keeps is the map itself.

Poppi et al., CVPRW 2021, section 3: Pearson's correlation of CAM(x) and CAM(x * CAM(x)), from [-1, 1] to [0, 1].
"""

import math

from numpy.typing import ArrayLike

from dualcam.metrics.fidelity import FidelityMetric, Measured
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.map_similarity import pearson
from dualcam.metrics.perturbations import MASKED


def coherency(heat: ArrayLike, heat_of_masked: ArrayLike) -> float:
    """Return 100 (1 + r) / 2 in percent, r the correlation of the map [H, W] and that of x * M, [H, W].

    In [0, 100]; higher is better; unrelated maps have 50. A constant map has no correlation: 0, as the authors
    count it.
    """
    r = pearson(heat, heat_of_masked)
    return 0.0 if math.isnan(r) else 50 * (1 + r)


def _score(measured: Measured, settings: FidelitySettings) -> float:
    return coherency(measured.heat, measured.maps[MASKED][0])


FIDELITY = FidelityMetric(
    name="coherency",
    title="Coherency",
    paper="Poppi et al., Revisiting the Evaluation of Class Activation Mapping for Explainability, CVPRW 2021",
    unit="percent",
    better="higher",
    low=0,
    high=100,
    score=_score,
    explains=lambda settings: (MASKED,),
)
