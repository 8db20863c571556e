"""One photo's maps against its ground truth: a record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualcam.evaluation.levels import CUTS, joint_levels, resize
from dualcam.evaluation.records import blank_record
from dualcam.evaluation.truth import Target
from dualcam.evaluation.views import GRID, ViewMaps
from dualcam.heatmap import normalize
from dualcam.metrics.box_curve import Mode, box_curve
from dualcam.metrics.center_box import center_ious
from dualcam.metrics.classification import label_ranks
from dualcam.metrics.localization import V1_DELTAS, V2_DELTAS
from dualcam.metrics.packed_hits import pack_hits
from dualcam.metrics.pixel_ap import pixel_counts
from dualcam.metrics.pointing import peak
from dualcam.refine import Guide, refine
from dualcam.types import Normalization


@dataclass(frozen=True)
class Protocol:
    """How maps are judged: box semantics and resizing, IVR's percentile, the fixed threshold, which boxes count."""

    normalizations: tuple[Normalization, ...]
    mode: Mode = "clean"
    percentile: float = 35.0
    threshold: float = 0.2
    first_box: bool = False


def measure(
    views: Sequence[ViewMaps],
    photo: int,
    logits: NDArray[np.float32],
    target: Target,
    protocol: Protocol,
    kind: np.dtype[np.void],
    guide: Guide | None = None,
) -> NDArray[Any]:
    """Return the record, of type ``kind``, of photo number ``photo`` of a batch; ``logits`` [C] are the softmax's.

    Without truth nothing is compared. With a ``guide`` the maps are refined along the photo's edges first.
    """
    record = blank_record(kind)
    record["predicted"] = int(logits.argmax())
    record["rank"] = label_ranks(logits[None], [target.label])[0] if target.label >= 0 else -1
    if target.boxes is not None:
        record["center"] = center_ious(target.boxes, GRID, inclusive=protocol.mode == "reference")
    if target.boxes is None and target.mask is None:
        return record
    for position in range(views[0].maps.shape[1]):
        values = resize(views, photo, position, bicubic=protocol.mode == "reference")
        if guide is not None:
            values = refine(values, guide)
        if target.boxes is not None and len(target.boxes):
            _judge_boxes(record, position, values, target.boxes, protocol)
        if target.mask is not None:
            for column, how in enumerate(protocol.normalizations):
                heat = normalize(values, how, percentile=protocol.percentile)
                record["pixels"][position, column] = pixel_counts(heat, target.mask)
    return record


def _judge_boxes(
    record: NDArray[Any], position: int, values: NDArray[np.float32], boxes: NDArray[np.float64], protocol: Protocol
) -> None:
    levels, cuts = joint_levels(values, protocol.normalizations, protocol.percentile)
    curve = box_curve(levels, cuts.ravel(), boxes, mode=protocol.mode)
    single = curve.largest_first if protocol.first_box else curve.largest
    best, largest = curve.any.reshape(-1, CUTS), single.reshape(-1, CUTS)
    record["any"][position] = pack_hits(best, V2_DELTAS)
    record["largest"][position] = pack_hits(largest, V1_DELTAS)
    record["best"][position] = best.max(1)
    record["fixed"][position] = largest[:, int(protocol.threshold * (CUTS - 1))]
    flat = cuts[:, 0] == int(levels.max())  # nothing above level 0: a map of zeros points nowhere
    x, y = peak(values)
    inside = bool(((boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])).any())
    record["peak"][position] = inside & ~flat
