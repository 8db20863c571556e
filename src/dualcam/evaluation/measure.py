"""One photo's maps against its ground truth: a record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualcam.evaluation.levels import resize
from dualcam.evaluation.records import blank_record, fields_of
from dualcam.evaluation.sight import Sight
from dualcam.evaluation.truth import Target
from dualcam.evaluation.views import GRID, ViewMaps
from dualcam.metrics.box_curve import Mode
from dualcam.metrics.center_box import center_ious
from dualcam.metrics.classification import label_ranks
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
    fields = [field for field in fields_of(kind) if field.truth in target.known]
    if not fields:
        return record
    for position in range(views[0].maps.shape[1]):
        values = resize(views, photo, position, bicubic=protocol.mode == "reference")
        if guide is not None:
            values = refine(values, guide)
        sight = Sight(values, target, protocol)
        for field in fields:
            record[field.name][position] = field.measure(sight)
    return record
