"""A heat map in [0, 1] to boxes."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dualcam.errors import ChoiceError
from dualcam.types import Box


def find_boxes(
    heatmap: NDArray[np.float32], threshold: float = 0.2, *, scale: tuple[float, float] = (1, 1)
) -> list[Box]:
    """Return the bounding boxes of the 8-connected components above ``threshold`` times the map's maximum.

    Boxes are XYXY, half-open, in map pixels times ``scale`` (x, y), best first. A box's score is the share of the
    map's sum that lies in its component. No component, as on a map of zeros, gives no box. Raises `ChoiceError`
    for a threshold outside of [0, 1).
    """
    if not 0 <= threshold < 1:
        raise ChoiceError(f"threshold must lie in [0, 1) of the map's maximum; got {threshold}")
    boxes = []
    for component in find_components(heatmap, threshold).best:
        left, right = (round(x * scale[0]) for x in (component.x, component.x + component.width))
        top, bottom = (round(y * scale[1]) for y in (component.y, component.y + component.height))
        boxes.append(Box(left, top, right, bottom, score=component.share))
    return boxes


class Component(NamedTuple):
    """An 8-connected component: its label, its bounding box in pixels, and its share [0, 1] of the map's sum."""

    label: int
    x: int
    y: int
    width: int
    height: int
    share: float


class Components(NamedTuple):
    """The components of a map, best first, and the picture [H, W] of their labels."""

    best: list[Component]
    labels: NDArray[np.int32]


def find_components(heatmap: NDArray[np.float32], threshold: float) -> Components:
    """Return the components of ``heatmap`` above ``threshold`` times its maximum; none on a map of zeros."""
    levels = (255 * heatmap).astype(np.uint8)
    foreground = (levels > int(threshold * float(levels.max()))).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(foreground, connectivity=8)
    sums = np.bincount(labels.ravel(), weights=heatmap.ravel().astype(np.float64), minlength=count)
    total = float(heatmap.sum(dtype=np.float64))
    found = []
    for label in range(1, count):
        x, y, width, height = (int(value) for value in stats[label, :4])
        found.append(Component(label, x, y, width, height, float(sums[label] / total)))
    return Components(sorted(found, key=lambda component: -component.share), np.asarray(labels))


def iou(box: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over union of two half-open XYXY boxes."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum((item[2] - item[0]) * (item[3] - item[1]) for item in (box, other))
    return shared / (areas - shared) if areas > shared else 0.0
