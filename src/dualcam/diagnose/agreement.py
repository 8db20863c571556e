"""How alike two maps of a photo are: by the order of their cells, and by the boxes they make."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualcam.data.preprocessing import Placement, to_source
from dualcam.diagnose.maps import Maps
from dualcam.heatmap import normalize
from dualcam.localize import find_boxes, iou
from dualcam.metrics.bootstrap import Interval, mean_interval
from dualcam.metrics.map_similarity import spearman
from dualcam.types import Box, Normalization

GRID = 224


@dataclass(frozen=True)
class Judge:
    """How maps become boxes: where the photos lie in the model's input, and the threshold, a share of the maximum."""

    placements: Sequence[Placement]
    threshold: float = 0.2

    def heat(self, values: NDArray[np.float64], photo: int, how: Normalization) -> NDArray[np.float32]:
        """Return a raw map [h, w] as heat in [0, 1] on a 224 x 224 grid over its photo."""
        return normalize(to_source(values.astype(np.float32), self.placements[photo], (GRID, GRID)), how)

    def box(self, values: NDArray[np.float64], photo: int, how: Normalization) -> Box | None:
        """Return the box of the most evidence, in pixels of that grid; None on a map of zeros."""
        return next(iter(find_boxes(self.heat(values, photo, how), self.threshold)), None)


@dataclass(frozen=True)
class Agreement:
    """Means over photos with intervals, of two maps each.

    ``rank``: Spearman's correlation of the signed maps' cells; photos where one map is constant are left out.
    ``box_signed``, ``box_positive``: IoU of the boxes of the signed map under min-max, as plain CAM is drawn, and of
    the positive one under max, the paper's rule. No box in both is 1, in one of them 0.
    """

    rank: Interval
    box_signed: Interval
    box_positive: Interval


Boxes = tuple[list[Box | None], list[Box | None]]


def find_all_boxes(maps: Maps, judge: Judge) -> Boxes:
    """Return the boxes of the signed and of the positive maps [N, h, w]."""
    photos = range(len(maps.signed))
    return (
        [judge.box(maps.signed[photo], photo, "minmax") for photo in photos],
        [judge.box(maps.positive[photo], photo, "max") for photo in photos],
    )


def agreement(pairs: Sequence[tuple[Maps, Maps]], boxes: Sequence[tuple[Boxes, Boxes]]) -> Agreement:
    """Return how alike the maps [N, h, w] of each pair are; several pairs (draws) are averaged photo by photo."""
    ranks = [[spearman(a, b) for a, b in zip(first.signed, second.signed, strict=True)] for first, second in pairs]
    kinds = [[box_ious(first[kind], second[kind]) for first, second in boxes] for kind in (0, 1)]
    return Agreement(mean_over(ranks), *(mean_over(kind) for kind in kinds))


def box_ious(first: Sequence[Box | None], second: Sequence[Box | None]) -> list[float]:
    """Return the IoU of each photo's two boxes; no box in both is 1, in one of them 0."""
    return [box_iou(a, b) for a, b in zip(first, second, strict=True)]


def box_iou(first: Box | None, second: Box | None) -> float:
    """Return the IoU of two boxes; 1 where there is neither, 0 where one is missing."""
    if first is None or second is None:
        return float(first is second)
    return iou((first.x0, first.y0, first.x1, first.y1), (second.x0, second.y0, second.x1, second.y1))


def mean_over(values: Sequence[ArrayLike]) -> Interval:
    """Return the mean over photos of ``values`` [draws, N], averaged over draws first; NaN photos are left out."""
    table = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(table)
    counts = known.sum(0)
    means = np.where(known, table, 0).sum(0)[counts > 0] / counts[counts > 0]
    return mean_interval(means)


def energy_share(part: NDArray[np.float64], rest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return |part|^2 / (|part|^2 + |rest|^2) over the cells of each map [..., h, w], in [0, 1]; 0 where both are 0."""
    ours, theirs = (np.square(each).sum((-2, -1)) for each in (part, rest))
    total = ours + theirs
    return np.asarray(np.divide(ours, total, out=np.zeros_like(ours), where=total > 0))
