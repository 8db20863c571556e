"""Insertion: how fast the class comes back when the hottest pixels are put into a blurred photo first.

Petsiuk et al., RISE, BMVC 2018, section 4.3 and algorithm 1: the area under p_k against the share of pixels put back.
"""

import numpy as np

from dualcam.metrics.curve import area_under_steps
from dualcam.metrics.fidelity import FidelityMetric, Measured, Perturbation
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.metrics.perturbations import BASELINES, INSERTED


def _asks(settings: FidelitySettings) -> tuple[Perturbation, ...]:
    return BASELINES[settings.insertion_baseline], INSERTED


def _score(measured: Measured, settings: FidelitySettings) -> float:
    """Return the area in [0, 1]; higher is better.

    Only the order of the map's values matters; ties, and so a whole constant map, go in reading order. It depends
    on the baseline: numbers with different ones can not be compared.
    """
    baseline, inserted = (measured.probabilities[each] for each in _asks(settings))
    return float(area_under_steps(np.concatenate((baseline, inserted, [measured.probability]))))


FIDELITY = FidelityMetric(
    name="insertion",
    title="Insertion AUC",
    paper="Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018",
    unit="fraction",
    better="higher",
    low=0,
    high=1,
    score=_score,
    asks=_asks,
)
