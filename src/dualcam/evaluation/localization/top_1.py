"""Top-1 Loc: the box is right, and the classifier's first choice is right."""

from dualcam.evaluation.fields import FIXED
from dualcam.evaluation.localization import LocalizationMetric, Scored
from dualcam.evaluation.localization.gt_known import is_found

LOCALIZATION = LocalizationMetric(
    title="Top-1 Loc",
    paper="Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015",
    fields=(FIXED,),
    score=lambda cell: Scored(100.0 * (is_found(cell) & (cell.rank < 1))),
    center=lambda boxes: 100.0 * (boxes.reaches(0.5) & (boxes.rank < 1)),
    order=40,
)
