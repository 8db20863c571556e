"""Box accuracy of a set of images from per-image IoU curves: MaxBoxAcc, MaxBoxAccV2, mean best IoU.

MaxBoxAcc is the share of images whose largest contour's box reaches IoU delta = 0.5, at the threshold where most do
(Choe et al., Evaluating Weakly Supervised Object Localization Methods Right, CVPR 2020). MaxBoxAccV2 takes the best of
all contours, and the mean over delta = 0.3, 0.5, 0.7, each at its own threshold (the same authors, Evaluation for
Weakly Supervised Object Localization, TPAMI 2022).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

V2_DELTAS = (0.3, 0.5, 0.7)
V1_DELTAS = (0.5,)


@dataclass(frozen=True)
class Hits:
    """What a set of images adds up to; sums over shards are the whole's (``iou_sum`` up to rounding).

    ``correct`` int64 [D, T]: images whose IoU at threshold t is at least delta d. ``iou_sum``: of each image's highest
    IoU over thresholds. ``images``: how many.
    """

    deltas: tuple[float, ...]
    correct: NDArray[np.int64]
    iou_sum: float
    images: int

    def __add__(self, other: "Hits") -> "Hits":
        if self.deltas != other.deltas or self.correct.shape != other.correct.shape:
            raise ValueError(
                "only counts of the same deltas and thresholds add up; got "
                f"{self.deltas} x {self.correct.shape[1]} and {other.deltas} x {other.correct.shape[1]}"
            )
        total = self.correct + other.correct
        return Hits(self.deltas, total, self.iou_sum + other.iou_sum, self.images + other.images)

    @property
    def percent(self) -> NDArray[np.float64]:
        """Box accuracy [D, T] in percent; NaN of no images."""
        return 100 * self.correct / self.images if self.images else np.full(self.correct.shape, np.nan)

    def best(self) -> NDArray[np.int64]:
        """Return per delta [D] the position of the threshold that serves most images; of equals the lowest."""
        return np.asarray(self.correct.argmax(1), dtype=np.int64)

    def at(self, positions: ArrayLike) -> NDArray[np.float64]:
        """Return box accuracy per delta [D] in percent at ``positions``, one for all deltas or one each."""
        rows = np.arange(len(self.deltas))
        return np.asarray(self.percent[rows, np.broadcast_to(np.asarray(positions), rows.shape)])

    @property
    def mean_best_iou(self) -> float:
        """Mean over images of the highest IoU over thresholds, in percent; the threshold is each image's own."""
        return 100 * self.iou_sum / self.images if self.images else float("nan")


def count_hits(ious: ArrayLike, deltas: Sequence[float] = V2_DELTAS) -> Hits:
    """Return the counts of IoU curves [N, T] (or [T] of one image), fractions; an IoU equal to delta is a hit."""
    curves = np.atleast_2d(np.asarray(ious, dtype=np.float64))
    correct = np.stack([(curves >= delta).sum(0, dtype=np.int64) for delta in deltas])
    return Hits(tuple(deltas), correct, float(curves.max(1).sum()) if len(curves) else 0.0, len(curves))


def max_box_accuracy(reported: Hits, *, chosen_on: Hits) -> float:
    """Return box accuracy of ``reported`` in percent, at each delta's best threshold on ``chosen_on``: mean of deltas.

    MaxBoxAccV2 for IoUs of any contour and `V2_DELTAS`, MaxBoxAcc for the largest contour's and `V1_DELTAS`.
    """
    if reported.deltas != chosen_on.deltas:
        raise ValueError(f"thresholds were chosen for deltas {chosen_on.deltas}, reported are {reported.deltas}")
    return float(reported.at(chosen_on.best()).mean())


def max_box_accuracy_over_test(reported: Hits) -> float:
    """Return the metric as the paper has it: thresholds are the best of the images reported, which flatters."""
    return max_box_accuracy(reported, chosen_on=reported)


def v2_scores(ious: ArrayLike, positions: ArrayLike, deltas: Sequence[float] = V2_DELTAS) -> NDArray[np.float64]:
    """Return per image [N] the share of deltas that its IoU curve [N, T] reaches at ``positions`` [D], a fraction.

    The mean over images is box accuracy `Hits.at` these positions, so it bootstraps and pairs image by image. The
    positions stay fixed under resampling: choose them on other images.
    """
    curves = np.asarray(ious, dtype=np.float64)
    columns = np.broadcast_to(np.asarray(positions), (len(deltas),))
    return np.asarray(np.mean(curves[:, columns] >= np.asarray(deltas), axis=1))
