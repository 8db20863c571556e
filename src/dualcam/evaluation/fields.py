"""What the records hold of every map, for all localization metrics to read."""

import numpy as np
from numpy.typing import NDArray

from dualcam.evaluation.levels import CUTS
from dualcam.evaluation.localization import Field, available
from dualcam.evaluation.sight import Sight
from dualcam.metrics.localization import V1_DELTAS, V2_DELTAS
from dualcam.metrics.packed_hits import pack_hits
from dualcam.metrics.pixel_ap import BINS, pixel_counts
from dualcam.metrics.pointing import peak


def _any(sight: Sight) -> NDArray[np.uint8]:
    return pack_hits(sight.best, V2_DELTAS)


def _largest(sight: Sight) -> NDArray[np.uint8]:
    return pack_hits(sight.largest, V1_DELTAS)


def _best(sight: Sight) -> NDArray[np.float64]:
    return np.asarray(sight.best.max(1))


def _fixed(sight: Sight) -> NDArray[np.float64]:
    return sight.largest[:, int(sight.protocol.threshold * (CUTS - 1))]


def _peak(sight: Sight) -> NDArray[np.bool_]:
    x, y = peak(sight.values)
    left, top, right, bottom = sight.boxes.T
    inside = bool(((left <= x) & (x < right) & (top <= y) & (y < bottom)).any())
    return np.asarray(inside & ~sight.flat)


def _pixels(sight: Sight) -> NDArray[np.int64]:
    return np.stack([pixel_counts(heat, sight.mask) for heat in sight.heats])


ANY = Field("any", np.uint8, _any, "boxes", (len(V2_DELTAS), CUTS // 8))
"""Whether the best of all contours reaches each IoU of `V2_DELTAS`, one bit a cut."""
LARGEST = Field("largest", np.uint8, _largest, "boxes", (len(V1_DELTAS), CUTS // 8))
"""Whether the largest contour reaches 0.5, one bit a cut."""
BEST = Field("best", np.float32, _best, "boxes")
"""The best IoU over cuts."""
FIXED = Field("fixed", np.float32, _fixed, "boxes")
"""The largest contour's IoU at the fixed threshold."""
PEAK = Field("peak", np.uint8, _peak, "boxes")
"""Whether the peak lies in a true box."""
PIXELS = Field("pixels", np.uint16, _pixels, "masks", (2, BINS))
"""Counts of (background, foreground) pixels by score."""
STANDARD: tuple[Field, ...] = (ANY, LARGEST, BEST, FIXED, PEAK, PIXELS)
"""In the order in which they lie in the records' files."""


def added_fields() -> tuple[Field, ...]:
    """Return what some localization metric reads beside the standard fields, each once."""
    read = dict.fromkeys(field for metric in available().values() for field in metric.fields)
    return tuple(field for field in read if field not in STANDARD)
