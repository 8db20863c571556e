"""Box accuracy over thresholds: MaxBoxAccV2 (Choe et al., CVPR 2020) on clean boxes.

Clean means: bounding boxes of 8-connected foreground components, half-open, no boxes of holes.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

DELTAS = (0.3, 0.5, 0.7)


def best_ious(
    heatmap: NDArray[np.float32], boxes: Sequence[Sequence[float]], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return, per threshold [T], the best IoU of any component's box with any true box.

    ``heatmap`` [H, W] in [0, 1]; foreground is uint8(255 map) > trunc(t * its maximum); ``boxes`` are XYXY, half-open,
    in map pixels. No component scores 0.
    """
    levels = (255 * heatmap).astype(np.uint8)
    cuts = (thresholds * float(levels.max())).astype(np.int64)
    truth = np.asarray(boxes, dtype=np.float64)
    found: dict[int, float] = {}
    for cut in np.unique(cuts):
        mask = (levels > cut).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        found[int(cut)] = _best_iou(stats[1:count].astype(np.float64), truth) if count > 1 else 0.0
    return np.array([found[int(cut)] for cut in cuts])


def _best_iou(stats: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    x0, y0, width, height = (stats[:, column, None] for column in range(4))
    overlap_x = np.minimum(x0 + width, truth[:, 2]) - np.maximum(x0, truth[:, 0])
    overlap_y = np.minimum(y0 + height, truth[:, 3]) - np.maximum(y0, truth[:, 1])
    shared = np.clip(overlap_x, 0, None) * np.clip(overlap_y, 0, None)
    areas = (truth[:, 2] - truth[:, 0]) * (truth[:, 3] - truth[:, 1])
    return float((shared / (width * height + areas - shared)).max())


def max_box_accuracy(ious: NDArray[np.float64], deltas: Sequence[float] = DELTAS) -> dict[float, tuple[int, float]]:
    """Return, per IoU level, the best threshold's position and the share of images [0, 1] that reach the level there.

    ``ious`` is [N, T]. The maximum is over the same images it is reported on, as the metric is defined; choose the
    position on other images for a figure without that optimism.
    """
    shares = {delta: (ious >= delta).mean(0) for delta in deltas}
    return {delta: (int(share.argmax()), float(share.max())) for delta, share in shares.items()}
