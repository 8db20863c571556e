"""Top-5 Loc: the box is right, and the class is among the classifier's first five."""

from dualcam.evaluation.fields import FIXED
from dualcam.evaluation.localization import LocalizationMetric, Scored
from dualcam.evaluation.localization.gt_known import is_found

LOCALIZATION = LocalizationMetric(
    title="Top-5 Loc",
    paper="Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015",
    fields=(FIXED,),
    score=lambda cell: Scored(100.0 * (is_found(cell) & (cell.rank < 5))),
    center=lambda boxes: 100.0 * (boxes.reaches(0.5) & (boxes.rank < 5)),
    order=50,
)
