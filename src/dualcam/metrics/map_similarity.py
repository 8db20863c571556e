"""How alike two maps are: correlation of values and of ranks, relative distance."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualcam.metrics.order import average_ranks


def pearson(first: ArrayLike, second: ArrayLike) -> float:
    """Return Pearson's correlation, in [-1, 1], of two maps [H, W]; NaN where one of them is constant."""
    a, b = (_centered(each) for each in (first, second))
    scale = np.sqrt((a @ a) * (b @ b))
    return float(np.clip(a @ b / scale, -1, 1)) if scale > 0 else float("nan")


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return Spearman's correlation, in [-1, 1], of two maps [H, W]; NaN where one of them is constant.

    Pearson's correlation of the ranks; ties have the mean of their ranks.
    """
    return float(rank_correlations(average_ranks(first), average_ranks(second)[None])[0])


def rank_correlations(first: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Spearman's correlations [R] of `average_ranks` [N] with others [R, N]; NaN where one is of a constant map.

    Their mean is known, and their sums of products are exact in double precision (up to some 10^5 pixels).
    """
    mean = (len(first) - 1) / 2
    a, b = first - mean, others - mean
    scale = np.sqrt((a @ a) * np.einsum("rn,rn->r", b, b))
    found = np.divide(b @ a, scale, out=np.full(len(b), np.nan), where=scale > 0)
    return np.asarray(np.clip(found, -1, 1))


def relative_distance(changed: ArrayLike, plain: ArrayLike) -> NDArray[np.float64]:
    """Return ||changed - plain|| / ||plain||, [S], Euclidean, of maps [S, H, W] and [H, W].

    Where ``plain`` is all zero the distance is not divided.
    """
    before = np.asarray(plain)
    before = before.astype(np.result_type(before, np.float32), copy=False)
    size = _norm(before.copy())
    moved = np.array([_norm(each - before) for each in np.asarray(changed)])
    return moved / (size if size > 0 else 1.0)


def _norm(values: NDArray[np.floating]) -> float:
    """Return the Euclidean norm of a map, which is overwritten; numpy adds up pairwise, so single precision will do."""
    return math.sqrt(np.square(values, out=values).sum())


def _centered(values: ArrayLike) -> NDArray[np.float64]:
    flat = np.asarray(values, np.float64).ravel()
    # A constant map's mean need not be its value to the last bit, and would leave noise that correlates.
    return np.zeros_like(flat) if flat.min() == flat.max() else np.asarray(flat - flat.mean())
