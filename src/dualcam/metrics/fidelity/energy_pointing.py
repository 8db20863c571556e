"""The energy-based pointing game: which share of the map's energy lies on the object.

Wang et al., Score-CAM, CVPRW 2020, section 4.3: the sum of the map inside the box over its sum.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualcam.metrics.fidelity import FidelityMetric, Measured
from dualcam.metrics.fidelity_settings import FidelitySettings

IGNORED = 255


def energy_on_object(heat: ArrayLike, truth: NDArray[np.uint8]) -> float:
    """Return 100 (sum of M on the object) / (sum of M) in percent, of a map [H, W] in [0, 1].

    ``truth`` [H, W] is 1 on the object (all boxes together, or a mask), 0 beside it, 255 left out of both sums. In
    [0, 100]; higher is better; an all-ones map has the object's share of the photo, which is what to compare with. A
    map without energy points nowhere: 0. Without any pixel of an object: NaN. Raises `ValueError` for other shapes.
    """
    values = np.asarray(heat, np.float64)
    if values.shape != truth.shape:
        raise ValueError(f"expected a map and a mask of one shape; got {values.shape} and {truth.shape}")
    if not (truth == 1).any():
        return float("nan")
    total = values[truth != IGNORED].sum()
    return min(100.0, float(100 * values[truth == 1].sum() / total)) if total > 0 else 0.0


def _score(measured: Measured, settings: FidelitySettings) -> float:
    return float("nan") if measured.truth is None else energy_on_object(measured.heat, measured.truth)


FIDELITY = FidelityMetric(
    name="energy-pointing",
    title="Energy pointing game",
    paper="Wang et al., Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks, CVPRW 2020",
    unit="percent",
    better="higher",
    low=0,
    high=100,
    score=_score,
    needs_truth=True,
)
