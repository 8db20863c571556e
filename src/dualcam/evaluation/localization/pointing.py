"""Pointing: the map's peak lies in a true box."""

import numpy as np

from dualcam.evaluation.fields import PEAK
from dualcam.evaluation.localization import LocalizationMetric, Scored

LOCALIZATION = LocalizationMetric(
    title="pointing",
    paper="Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016",
    fields=(PEAK,),
    score=lambda cell: Scored(100.0 * cell.shown(PEAK).astype(np.float64)),
    order=70,
)
