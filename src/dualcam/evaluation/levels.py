"""A raw map to gray levels under several normalizations at once."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dualcam.data.preprocessing import to_source
from dualcam.evaluation.views import GRID, ViewMaps
from dualcam.heatmap import normalize
from dualcam.types import Normalization

CUTS = 256


def resize(views: Sequence[ViewMaps], photo: int, kind: int, *, bicubic: bool) -> NDArray[np.float32]:
    """Return the mean over views of one photo's map on the 224 x 224 grid over its source.

    Bilinear, or bicubic as the reference evaluation has it (which overshoots).
    """
    grids: list[NDArray[np.float32]] = []
    for view in views:
        raw = view.maps[photo, kind].numpy()
        if bicubic:
            grids.append(np.asarray(cv2.resize(raw, (GRID, GRID), interpolation=cv2.INTER_CUBIC), dtype=np.float32))
        else:
            grids.append(to_source(raw, view.placements[photo], (GRID, GRID)))
    return grids[0] if len(grids) == 1 else sum(grids[1:], start=grids[0]) / np.float32(len(grids))


def joint_levels(
    values: NDArray[np.float32], how: Sequence[Normalization], percentile: float
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Return one picture of levels [H, W] and the cuts [len(how), 256] in it.

    Under normalization n the foreground at cut c, uint8(255 map) > c, is levels > cuts[n, c]. Every normalization is
    a monotone function of the map, so the sum of their uint8 levels tells apart exactly what any of them does.
    """
    each = [(255 * normalize(values, name, percentile=percentile)).astype(np.uint8) for name in how]
    levels = each[0].astype(np.uint16)
    for more in each[1:]:
        levels += more
    cuts = np.empty((len(how), CUTS), dtype=np.int64)
    pixel = np.full(int(levels.max()) + 1, -1, dtype=np.int32)  # any pixel of each level
    pixel[levels.ravel()] = np.arange(levels.size, dtype=np.int32)
    present = np.flatnonzero(pixel >= 0)
    for position, gray in enumerate(each):
        below = np.searchsorted(gray.ravel()[pixel[present]], np.arange(CUTS), side="right")
        cuts[position] = np.where(below > 0, present[below - 1], -1)
    return levels, cuts
