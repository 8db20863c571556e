"""GT-known, Top-1 and Top-5 localization at a fixed threshold of the map.

GT-known Loc: the box of the largest contour has IoU of at least delta with a true box, the class being given. Top-k
Loc asks also that the label is among the classifier's k highest scores (Russakovsky et al., ImageNet Large Scale Visual
Recognition Challenge, IJCV 2015; threshold 0.2 and largest component: Zhou et al., CVPR 2016).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LOC_THRESHOLD = 0.2
LOC_DELTA = 0.5


@dataclass(frozen=True)
class LocCounts:
    """Images, and how many are localized: class given, label first, label in the first five; shards add up."""

    images: int = 0
    known: int = 0
    top1: int = 0
    top5: int = 0

    def __add__(self, other: "LocCounts") -> "LocCounts":
        return LocCounts(
            self.images + other.images, self.known + other.known, self.top1 + other.top1, self.top5 + other.top5
        )

    @property
    def percent(self) -> dict[str, float]:
        """GT-known, Top-1 and Top-5 Loc in percent; NaN of no images."""
        counts = {"GT-known Loc": self.known, "Top-1 Loc": self.top1, "Top-5 Loc": self.top5}
        return {name: 100 * count / self.images if self.images else float("nan") for name, count in counts.items()}


def count_localized(ious: ArrayLike, ranks: NDArray[np.int64], *, delta: float = LOC_DELTA) -> LocCounts:
    """Return the counts of N images.

    ``ious`` [N] are the largest contour's IoUs, fractions, at the fixed threshold (`LOC_THRESHOLD`): of
    `box_curve(...).largest` with any true box, of ``largest_first`` with the first one as the reference evaluation
    does. ``ranks`` [N] are from `label_ranks`. An IoU equal to delta is a hit.
    """
    known = np.asarray(ious, dtype=np.float64) >= delta
    if known.shape != ranks.shape:
        raise ValueError(f"expected one rank per IoU; got {ranks.shape} and {known.shape}")
    return LocCounts(len(known), int(known.sum()), int((known & (ranks < 1)).sum()), int((known & (ranks < 5)).sum()))
