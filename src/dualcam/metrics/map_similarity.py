"""How alike two maps are: correlation of values and of ranks, relative distance."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pearson(first: ArrayLike, second: ArrayLike) -> float:
    """Return Pearson's correlation, in [-1, 1], of two maps [H, W]; NaN where one of them is constant."""
    a, b = (_centered(each) for each in (first, second))
    scale = np.sqrt((a @ a) * (b @ b))
    return float(np.clip(a @ b / scale, -1, 1)) if scale > 0 else float("nan")


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return Spearman's correlation, in [-1, 1], of two maps [H, W]; NaN where one of them is constant.

    Pearson's correlation of the ranks; ties have the mean of their ranks.
    """
    return pearson(average_ranks(first), average_ranks(second))


def average_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Return the ranks [N], from 0, of ``values`` [...] in rising order; ties have the mean of theirs."""
    flat = np.asarray(values).ravel()
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    ends = np.append(starts[1:], len(flat))
    ranks = np.empty(len(flat))
    ranks[order] = np.repeat((starts + ends - 1) / 2, ends - starts)
    return ranks


def relative_distance(changed: ArrayLike, plain: ArrayLike) -> NDArray[np.float64]:
    """Return ||changed - plain|| / ||plain||, [S], Euclidean, of maps [S, H, W] and [H, W].

    Where ``plain`` is all zero the distance is not divided.
    """
    before = np.asarray(plain, np.float64).ravel()
    after = np.asarray(changed, np.float64).reshape(len(np.asarray(changed)), -1)
    size = np.linalg.norm(before)
    return np.asarray(np.linalg.norm(after - before, axis=1) / (size if size > 0 else 1.0))


def _centered(values: ArrayLike) -> NDArray[np.float64]:
    flat = np.asarray(values, np.float64).ravel()
    # A constant map's mean need not be its value to the last bit, and would leave noise that correlates.
    return np.zeros_like(flat) if flat.min() == flat.max() else np.asarray(flat - flat.mean())
