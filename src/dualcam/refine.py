"""Maps that follow the photo's edges: the guided filter (He, Sun, Tang, Guided Image Filtering, PAMI 2013)."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

RADIUS_SHARE = 1 / 7
"""Radius of the filter's window, as a share of the map's longer side."""
EPSILON = 1e-3
"""Variance of color, on a scale of 0 to 1, below which a window counts as one surface."""
PASSES = 2


@dataclass(frozen=True)
class Guide:
    """A photo made ready to guide any number of maps.

    Its color [H, W, 3] in [0, 1], the means of that in windows, and the inverse [H, W, 3, 3] of each window's color
    covariance plus epsilon.
    """

    photo: NDArray[np.float32]
    color: NDArray[np.float32]
    inverse: NDArray[np.float32]
    radius: int


def make_guide(photo: NDArray[np.float32], *, radius: int | None = None, epsilon: float = EPSILON) -> Guide:
    """Return the guide of ``photo`` [H, W, 3] in [0, 1]; ``radius`` in pixels."""
    radius = max(1, round(RADIUS_SHARE * max(photo.shape[:2]))) if radius is None else radius
    color = _mean(photo, radius)
    spread = np.empty((*photo.shape[:2], 3, 3), dtype=np.float32)
    for a in range(3):
        for b in range(a, 3):
            product = _mean(photo[..., a] * photo[..., b], radius) - color[..., a] * color[..., b]
            spread[..., a, b] = spread[..., b, a] = product
    spread += np.float32(epsilon) * np.eye(3, dtype=np.float32)
    return Guide(photo, color, np.linalg.inv(spread).astype(np.float32), radius)


def guided_filter(values: NDArray[np.float32], guide: Guide) -> NDArray[np.float32]:
    """Return ``values`` [H, W] smoothed inside of surfaces and sharpened at the photo's edges.

    In every window of side 2 radius + 1 the result is the linear function of color that is nearest to the map
    (eq. 14 and 15 of the paper); overlapping windows are averaged. The operation is linear in the map: sign and unit
    stay, but cell by cell a filtered map does not add up to the logit.
    """
    level = _mean(values, guide.radius)
    covariance = _mean(guide.photo * values[..., None], guide.radius) - guide.color * level[..., None]
    slope = np.einsum("hwab,hwb->hwa", guide.inverse, covariance)
    offset = level - (slope * guide.color).sum(-1)
    return np.asarray((_mean(slope, guide.radius) * guide.photo).sum(-1) + _mean(offset, guide.radius), np.float32)


def refine(values: NDArray[np.float32], guide: Guide) -> NDArray[np.float32]:
    """Return the map [H, W] after the filter's usual `PASSES`."""
    for _ in range(PASSES):
        values = guided_filter(values, guide)
    return values


def _mean(array: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    window = (2 * radius + 1, 2 * radius + 1)
    return np.asarray(cv2.boxFilter(array, -1, window, borderType=cv2.BORDER_REFLECT), dtype=np.float32)
