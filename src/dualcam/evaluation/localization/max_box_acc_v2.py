"""MaxBoxAccV2: the best of all contours' boxes, the mean over three IoUs, each at its own threshold."""

import numpy as np
from numpy.typing import NDArray

from dualcam.evaluation.fields import ANY
from dualcam.evaluation.levels import CUTS
from dualcam.evaluation.localization import Centered, LocalizationMetric, Recorded, Scored
from dualcam.metrics.localization import V2_DELTAS
from dualcam.metrics.packed_hits import count_packed, hits_at


def score(cell: Recorded) -> Scored:
    """Return each photo's share of `V2_DELTAS` reached at the cuts that serve most photos that choose."""
    cuts = count_packed(cell.chosen(ANY), CUTS).argmax(1)
    named = zip(V2_DELTAS, cuts.tolist(), strict=True)
    thresholds = {f"MaxBoxAccV2 at {delta:g}": cut / (CUTS - 1) for delta, cut in named}
    return Scored(100 * hits_at(cell.shown(ANY), cuts).mean(1), thresholds)


def center(boxes: Centered) -> NDArray[np.float64]:
    """Return the same of centre boxes, each IoU with the area share that is best for it."""
    return np.asarray(100 * np.mean([boxes.reaches(delta) for delta in V2_DELTAS], 0))


LOCALIZATION = LocalizationMetric(
    title="MaxBoxAccV2",
    paper="Choe et al., Evaluation for Weakly Supervised Object Localization, TPAMI 2022",
    fields=(ANY,),
    score=score,
    center=center,
    order=10,
)
