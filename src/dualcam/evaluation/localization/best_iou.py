"""Best IoU: the mean of each photo's IoU at its own best threshold, how good the map could be."""

import numpy as np

from dualcam.evaluation.fields import BEST
from dualcam.evaluation.localization import LocalizationMetric, Scored

LOCALIZATION = LocalizationMetric(
    title="best IoU",
    fields=(BEST,),
    score=lambda cell: Scored(100.0 * cell.shown(BEST).astype(np.float64)),
    center=lambda boxes: 100.0 * boxes.shown.max(1).astype(np.float64),
    order=60,
)
