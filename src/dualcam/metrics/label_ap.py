"""Average precision of labels: how well a class's scores put the photos that have it before those that do not.

The area under the precision-recall curve as a step function (no interpolation), as scikit-learn has it, averaged over
classes ("macro"). VOC's and COCO's own evaluations interpolate precision, so their figures are slightly higher.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def label_average_precision(scores: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Return AP [C] as fractions; NaN for classes that no photo has.

    ``scores`` [N, C] order the photos of each class, in any unit; ``truth`` [N, C] is nonzero where the photo has the
    label. Photos of equal score enter together. Raises `ValueError` for other shapes or NaN.
    """
    values, wanted = np.asarray(scores), np.asarray(truth) != 0
    if values.ndim != 2 or values.shape != wanted.shape:
        raise ValueError(f"expected scores and truth of one shape [N, C]; got {values.shape} and {wanted.shape}")
    if np.isnan(values).any():
        raise ValueError("scores hold NaN, which has no rank")
    return np.array([_one(values[:, k], wanted[:, k]) for k in range(values.shape[1])], dtype=np.float64)


def mean_average_precision(scores: ArrayLike, truth: ArrayLike) -> float:
    """Return the mean of `label_average_precision` over the classes that some photo has; NaN where none has any."""
    found = label_average_precision(scores, truth)
    known = found[~np.isnan(found)]
    return float(known.mean()) if len(known) else float("nan")


def _one(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    total = int(truth.sum())
    if not total:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    found = hits[ends]
    return float((np.diff(found, prepend=0) / total * (found / (ends + 1))).sum())
