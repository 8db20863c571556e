"""GT-known Loc: the largest contour's box at the fixed threshold reaches an IoU of 0.5."""

import numpy as np
from numpy.typing import NDArray

from dualcam.evaluation.fields import FIXED
from dualcam.evaluation.localization import LocalizationMetric, Recorded, Scored


def is_found(cell: Recorded) -> NDArray[np.bool_]:
    """Whether each photo's box reaches 0.5, [N]."""
    return np.asarray(cell.shown(FIXED) >= 0.5)


LOCALIZATION = LocalizationMetric(
    title="GT-known Loc",
    paper="Singh & Lee, Hide-and-Seek, ICCV 2017",
    fields=(FIXED,),
    score=lambda cell: Scored(100.0 * is_found(cell)),
    center=lambda boxes: 100.0 * boxes.reaches(0.5),
    order=30,
)
