"""Whether a classifier is right: the label's rank among the logits, and Top-k counts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


def label_ranks(logits: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Return how many classes come before the label of each image, int64 [N]; 0 is Top-1.

    ``logits`` [N, C] are any scores that order the classes, ``labels`` [N] class numbers. Of equal scores the lower
    class number comes first, as in a stable sort. Raises `ValueError` for NaN and for labels outside of [0, C).
    """
    scores, wanted = np.asarray(logits), np.asarray(labels, dtype=np.int64)
    if scores.ndim != 2 or wanted.shape != scores.shape[:1]:
        raise ValueError(f"expected logits [N, C] and labels [N]; got {scores.shape} and {wanted.shape}")
    if np.isnan(scores).any():
        raise ValueError("logits hold NaN, which has no rank")
    if len(wanted) and not (wanted.min() >= 0 and wanted.max() < scores.shape[1]):
        raise ValueError(f"labels must lie in [0, {scores.shape[1]}); got {wanted.min()} to {wanted.max()}")
    own = np.take_along_axis(scores, wanted[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < wanted[:, None]
    return np.asarray(((scores > own) | ((scores == own) & earlier)).sum(1), dtype=np.int64)


def in_top(logits: ArrayLike, labels: ArrayLike, k: int = 1) -> NDArray[np.bool_]:
    """Return per image [N] whether its label is among the ``k`` highest logits; with k >= C it always is."""
    return label_ranks(logits, labels) < k


@dataclass(frozen=True)
class ClassCounts:
    """Images, and how many have their label first or among the first five; counts of shards add up."""

    images: int = 0
    top1: int = 0
    top5: int = 0

    def __add__(self, other: "ClassCounts") -> "ClassCounts":
        return ClassCounts(self.images + other.images, self.top1 + other.top1, self.top5 + other.top5)

    @property
    def top1_accuracy(self) -> float:
        """Top-1 accuracy in percent; NaN of no images."""
        return 100 * self.top1 / self.images if self.images else float("nan")

    @property
    def top5_accuracy(self) -> float:
        """Top-5 accuracy in percent; NaN of no images."""
        return 100 * self.top5 / self.images if self.images else float("nan")


def count_classes(ranks: NDArray[np.int64]) -> ClassCounts:
    """Return the counts of ``ranks`` [N] from `label_ranks`."""
    return ClassCounts(len(ranks), int((ranks < 1).sum()), int((ranks < 5).sum()))
