"""Mask IoU: of the map above a threshold with the mask, at the threshold of highest mean."""

from dualcam.evaluation.fields import PIXELS
from dualcam.evaluation.localization import LocalizationMetric, Recorded, Scored
from dualcam.metrics.mask_iou import best_mask_cut, mask_ious


def score(cell: Recorded) -> Scored:
    """Return each photo's IoU at the threshold that is best for the photos that choose; NaN without foreground."""
    cut = best_mask_cut(cell.chosen(PIXELS))
    return Scored(100 * mask_ious(cell.shown(PIXELS))[:, cut], {"mask IoU": cut / 1000})


LOCALIZATION = LocalizationMetric(title="mask IoU", fields=(PIXELS,), score=score, order=90)
