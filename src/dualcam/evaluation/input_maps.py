"""Maps on the pixels of the model's input, where photos are masked; and the truth there."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dualcam.data.preprocessing import Placement, interpolation_weights
from dualcam.evaluation.views import GRID, ViewMaps
from dualcam.refine import Guide, refine

BLOB = 0.25
"""Deviation of the centre blob, as a share of the input's sides."""
IGNORED = 255
TRIVIAL = ("centre blob", "whole photo")
"""Maps that are made without a look at the photo: what every figure has to beat."""


def resize_views(
    views: Sequence[ViewMaps], photo: int, size: tuple[int, int], guide: Guide | None = None
) -> NDArray[np.float32]:
    """Return the mean over views of one photo's raw maps [kinds, H, W], bilinear, refined along ``guide``.

    Every view shows the same part of the photo, so its cells cover the input of ``size`` (height, width) evenly.
    """
    total = resize_maps(views[0].maps[photo].numpy(), size)
    for view in views[1:]:
        total += resize_maps(view.maps[photo].numpy(), size)
    total /= np.float32(len(views))
    return total if guide is None else np.stack([refine(each, guide) for each in total])


def resize_maps(raw: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return ``raw`` [..., h, w] on ``size`` (height, width) pixels; bilinear, no aligned corners."""
    vertical, horizontal = _weights(raw.shape[-2], size[0]), _weights(raw.shape[-1], size[1])
    resized: NDArray[np.float32] = vertical @ np.asarray(raw, dtype=np.float32) @ horizontal.T
    return resized


@cache
def _weights(cells: int, pixels: int) -> NDArray[np.float32]:
    return interpolation_weights(cells, pixels, 1.0, 0.0, pixels)


@cache
def trivial_heats(size: tuple[int, int]) -> tuple[NDArray[np.float32], ...]:
    """Return the maps [H, W] called `TRIVIAL`: a Gaussian in the middle that fills it, and ones everywhere."""
    down, across = (((np.arange(pixels, dtype=np.float32) + 0.5) / pixels - 0.5) / BLOB for pixels in size)
    blob = np.exp(-(down[:, None] ** 2 + across[None] ** 2) / 2)
    return np.asarray(blob, dtype=np.float32), np.ones(size, dtype=np.float32)


def truth_on_input(
    boxes: NDArray[np.float64] | None, mask: NDArray[np.uint8] | None, placement: Placement
) -> NDArray[np.uint8] | None:
    """Return the truth on the input's pixels [H, W]: 1 object, 0 beside it, 255 ignored or outside of the photo.

    ``mask`` [GRID, GRID], or else ``boxes`` [G, 4], lie on the square grid over the photo. None without either.
    """
    if mask is None and boxes is None:
        return None
    x, y = (
        ((np.arange(placement.input[axis]) + 0.5 - placement.offset[axis]) / placement.scale[axis])
        * (GRID / placement.source[axis])
        for axis in (0, 1)
    )
    truth = np.zeros((len(y), len(x)), dtype=np.uint8)
    if mask is not None:
        rows, columns = (np.clip(np.floor(line), 0, GRID - 1).astype(np.int64) for line in (y, x))
        truth[:] = mask[rows[:, None], columns[None]]
    else:
        assert boxes is not None
        for x0, y0, x1, y1 in boxes:
            truth |= (((y0 <= y) & (y < y1))[:, None] & ((x0 <= x) & (x < x1))[None]).astype(np.uint8)
    outside = ((y < 0) | (y >= GRID))[:, None] | ((x < 0) | (x >= GRID))[None]
    truth[outside] = IGNORED
    return truth
