"""dualcam under the names that ``check_wsol.py`` of the reference results calls."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualcam.errors import DataError
from dualcam.metrics.box_curve import box_curve, cuts_of, quantize, scale_boxes
from dualcam.metrics.localization import count_hits
from dualcam.metrics.pixel_ap import average_precision, instance_mask, pixel_counts


def best_iou(
    heatmap: NDArray[np.floating], truth: NDArray[np.int64], thresholds: NDArray[np.float64], multi: bool
) -> NDArray[np.float64]:
    """Return the IoU per threshold of the best contour, or of the largest one, with any true box."""
    levels = quantize(heatmap)
    curve = box_curve(levels, cuts_of(levels, thresholds), truth.astype(np.float64), largest=not multi)
    return curve.any if multi else curve.largest


def resize_boxes(boxes: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """Return boxes in pixels of a 224 x 224 map."""
    try:
        return scale_boxes(boxes, size, mode="reference").astype(np.int64)
    except DataError as error:  # the reference's error for the same boxes
        raise RuntimeError(str(error)) from error


def evaluate(
    maps: Sequence[NDArray[np.floating]],
    truths: Sequence[NDArray[np.int64]],
    right: Sequence[int],
    thresholds: NDArray[np.float64],
    percents: Sequence[int],
) -> dict[str, Any]:
    """Return what the reference counts of a set: any contour and box; largest contour and first box for Loc."""
    curves = []
    for heatmap, truth in zip(maps, truths, strict=True):
        levels = quantize(heatmap)
        curves.append(box_curve(levels, cuts_of(levels, thresholds), truth.astype(np.float64), mode="reference"))
    deltas = [percent / 100 for percent in percents]
    hits = count_hits(np.stack([curve.any for curve in curves]), deltas)
    first = np.stack([curve.largest_first for curve in curves])
    classified = np.where(np.asarray(right, dtype=bool)[:, None], first, 0.0)
    return {
        "num_correct": hits.correct,
        "maxboxacc": hits.at(hits.best()),
        "gt_loc": count_hits(first, deltas).percent,
        "top1_loc": count_hits(classified, deltas).percent,
    }


def gt_mask(instances: NDArray[np.uint8], ignore: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the joined mask on the reference's grid."""
    return instance_mask(instances, [ignore], grid=224)


def pxap(maps: Sequence[NDArray[np.floating]], masks: NDArray[np.uint8], thresholds: NDArray[np.float64]) -> float:
    """Return PxAP in percent."""
    counts = [pixel_counts(heatmap, mask, thresholds) for heatmap, mask in zip(maps, masks, strict=True)]
    return float(average_precision(np.sum(counts, axis=0)))
