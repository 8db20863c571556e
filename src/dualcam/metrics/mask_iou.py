"""IoU of the thresholded map with a mask, at every threshold, from the counts of `pixel_ap.pixel_counts`.

At threshold t the map's mask is score >= t. Ignored pixels are in no count and so left out of both masks.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

CHUNK = 4096


def mask_ious(counts: ArrayLike) -> NDArray[np.float64]:
    """Return the IoU in [0, 1] at each threshold, [..., T], of counts [..., 2, T + 2] (background, foreground).

    Of summed counts it is the pooled IoU, in which a large object weighs more. Without any foreground: NaN.
    """
    pixels = np.asarray(counts)
    above = np.cumsum(pixels[..., ::-1], axis=-1, dtype=np.float64)[..., ::-1]
    false, true = above[..., 0, :-2], above[..., 1, :-2]
    size = above[..., 1, :1]
    with np.errstate(invalid="ignore"):
        return np.asarray(true / np.where(size > 0, size + false, np.nan))


def sum_mask_ious(counts: ArrayLike) -> tuple[NDArray[np.float64], int]:
    """Return per threshold the sum of the images' IoUs, [T], and their number, of counts [N, 2, T + 2].

    Images without foreground have no IoU and are not counted. Sums and numbers of shards add up.
    """
    pixels = np.asarray(counts)
    sums, images = np.zeros(pixels.shape[-1] - 2), 0
    for start in range(0, len(pixels), CHUNK):
        part = pixels[start : start + CHUNK]
        part = part[part[:, 1].any(-1)]
        sums += mask_ious(part).sum(0)
        images += len(part)
    return sums, images


def best_mask_cut(counts: ArrayLike) -> int:
    """Return the position of the threshold of highest mean IoU over the images of counts [N, 2, T + 2].

    Of equals the lowest. Choose it on images other than those it is reported on.
    """
    return int(sum_mask_ious(counts)[0].argmax())


def mean_mask_iou(counts: ArrayLike, position: int) -> float:
    """Return the mean over images of IoU at one threshold, in percent; NaN where no image has foreground."""
    sums, images = sum_mask_ious(counts)
    return 100 * float(sums[position]) / images if images else float("nan")


def pooled_mask_iou(counts: ArrayLike, position: int) -> float:
    """Return the IoU of all images' pixels together at one threshold, in percent."""
    return 100 * float(mask_ious(np.asarray(counts).sum(0, dtype=np.int64))[position])
