"""MaxBoxAcc: the largest contour's box reaches an IoU of 0.5, at the threshold where most do."""

from dualcam.evaluation.fields import LARGEST
from dualcam.evaluation.levels import CUTS
from dualcam.evaluation.localization import LocalizationMetric, Recorded, Scored
from dualcam.metrics.packed_hits import count_packed, hits_at


def score(cell: Recorded) -> Scored:
    """Return whether each photo's box reaches 0.5 at the cut that serves most photos that choose."""
    cuts = count_packed(cell.chosen(LARGEST), CUTS).argmax(1)
    threshold = {"MaxBoxAcc": float(cuts[0]) / (CUTS - 1)}
    return Scored(100 * hits_at(cell.shown(LARGEST), cuts).mean(1), threshold)


LOCALIZATION = LocalizationMetric(
    title="MaxBoxAcc",
    paper="Choe et al., Evaluating Weakly Supervised Object Localization Methods Right, CVPR 2020",
    fields=(LARGEST,),
    score=score,
    center=lambda boxes: 100.0 * boxes.reaches(0.5),
    order=20,
)
