"""PxAP: average precision over the pooled pixels of a set (Choe et al., CVPR 2020).

A map's pixels fall into bins of score, background and foreground apart; counts of images add up, so a set needs
one pair of histograms however large it is.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

IGNORED = 255
THRESHOLDS: NDArray[np.float64] = np.arange(1001) / 1000
"""Scores at which precision and recall are taken: 0, 0.001, ..., 1."""


def bin_edges(thresholds: ArrayLike = THRESHOLDS) -> NDArray[np.float64]:
    """Return the edges [T + 3] of the reference's bins: the ``thresholds`` [T] and 1, 2, 3.

    A bin holds its lower edge and not its upper one, so a score of 1 has the bin [1, 2).
    """
    return np.append(np.asarray(thresholds, dtype=np.float64), [1.0, 2.0, 3.0])


BINS = len(bin_edges()) - 1


def pixel_counts(
    heatmap: NDArray[np.floating], mask: NDArray[np.uint8], thresholds: ArrayLike = THRESHOLDS
) -> NDArray[np.int64]:
    """Return the pixels of one map by truth and score: int64 [2, T + 2], background first.

    ``heatmap`` [H, W] lies in [0, 1]; ``mask`` [H, W] is 0 background, 1 foreground, 255 ignored. An image that is all
    ignored counts nothing. Raises `ValueError` for other shapes or values, and where a score is below all thresholds.
    """
    edges = bin_edges(thresholds)
    if heatmap.shape != mask.shape or heatmap.ndim != 2:
        raise ValueError(f"expected a map and a mask of one shape [H, W]; got {heatmap.shape} and {mask.shape}")
    if not (heatmap.min() >= max(edges[0], 0.0) and heatmap.max() <= 1):
        raise ValueError(f"map values must lie in [{max(edges[0], 0.0):g}, 1]; got {heatmap.min()} to {heatmap.max()}")
    truth = [mask == 0, mask == 1]
    if int((truth[0] | truth[1] | (mask == IGNORED)).sum()) != mask.size:
        raise ValueError(f"mask values must be 0, 1 or {IGNORED}; got {np.unique(mask).tolist()}")
    counts = [np.histogram(heatmap[pixels], bins=edges)[0] for pixels in truth]
    return np.asarray(counts, dtype=np.int64)


def average_precision(counts: ArrayLike) -> NDArray[np.float64]:
    """Return PxAP in percent, [...], of counts [..., 2, B] summed over the images that are pooled.

    sum over thresholds of precision(t) (recall(t) - recall(next higher t)), where anything is found at t. NaN where
    there is no foreground; 100 where there is no background.
    """
    pixels = np.asarray(counts, dtype=np.float64)
    false, true = np.moveaxis(np.cumsum(pixels[..., ::-1], axis=-1), -2, 0)
    found = true + false
    with np.errstate(invalid="ignore"):
        precision = np.divide(true, found, out=np.zeros_like(true), where=found > 0)
        recall = true / true[..., -1:]
    return np.asarray(100 * (precision[..., 1:] * np.diff(recall, axis=-1)).sum(-1))


def instance_mask(
    instances: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    ignored: Sequence[NDArray[np.uint8]] | NDArray[np.uint8] = (),
    *,
    grid: int = 224,
) -> NDArray[np.uint8]:
    """Return one mask [grid, grid] of 0 background, 1 foreground, 255 ignored, from masks of any size.

    ``instances`` and ``ignored`` are masks [H, W] (or stacks [K, H, W]), nonzero inside. Each is resized by OpenCV's
    nearest neighbour, then joined; what is foreground is not ignored. No instances give no foreground.
    """
    foreground, left_out = _union(instances, grid), _union(ignored, grid)
    return np.where(foreground, 1, np.where(left_out, IGNORED, 0)).astype(np.uint8)


def _union(masks: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], grid: int) -> NDArray[np.bool_]:
    joined = np.zeros((grid, grid), dtype=np.bool_)
    for mask in masks:
        joined |= cv2.resize(mask, (grid, grid), interpolation=cv2.INTER_NEAREST) > 0
    return joined
