"""Deletion: how fast the class goes when the hottest pixels are taken out first.

Petsiuk et al., RISE, BMVC 2018, section 4.3 and algorithm 1: the area under p_k against the share of pixels taken out.
"""

import numpy as np

from dualcam.metrics.curve import area_under_steps
from dualcam.metrics.fidelity import FidelityMetric, Measured, Perturbation
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.perturbations import BASELINES, DELETED


def _asks(settings: FidelitySettings) -> tuple[Perturbation, ...]:
    return BASELINES[settings.deletion_baseline], DELETED


def _score(measured: Measured, settings: FidelitySettings) -> float:
    """Return the area in [0, 1]; lower is better.

    Only the order of the map's values matters; ties, and so a whole constant map, go in reading order. A drop may
    also be because the holes themselves are unlike any photo.
    """
    baseline, deleted = (measured.probabilities[each] for each in _asks(settings))
    return float(area_under_steps(np.concatenate(([measured.probability], deleted, baseline))))


FIDELITY = FidelityMetric(
    name="deletion",
    title="Deletion AUC",
    paper="Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018",
    unit="fraction",
    better="lower",
    low=0,
    high=1,
    score=_score,
    asks=_asks,
)
