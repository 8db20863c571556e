"""PxAP: average precision over the pooled pixels of all photos."""

from dualcam.evaluation.fields import PIXELS
from dualcam.evaluation.localization import LocalizationMetric, Scored
from dualcam.metrics.pixel_ap import average_precision

LOCALIZATION = LocalizationMetric(
    title="PxAP",
    paper="Choe et al., Evaluating Weakly Supervised Object Localization Methods Right, CVPR 2020",
    fields=(PIXELS,),
    score=lambda cell: Scored(cell.shown(PIXELS)),
    pool=average_precision,
    order=80,
)
