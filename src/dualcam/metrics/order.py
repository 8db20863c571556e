"""The order of a map's values."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def rising_order(values: ArrayLike) -> NDArray[np.int64]:
    """Return the places [N] of ``values`` [N] from the lowest to the highest; equal ones in the order they come in.

    NaN lies beyond all numbers. Single precision takes a fraction of `numpy.argsort`'s time: value and place make one
    integer, so that what is sorted is sorted where it lies, and no two are equal.
    """
    flat = np.asarray(values)
    if flat.dtype != np.float32:
        return np.argsort(flat, kind="stable")
    bits = (flat + np.float32(0)).view(np.int32)  # -0 and 0 are equal
    rising = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))  # of negative numbers, the more the lower
    keys = rising.astype(np.int64)
    keys <<= 32
    keys |= np.arange(len(flat))
    keys.sort()
    keys &= 0xFFFFFFFF
    return keys


def average_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Return the ranks [N], from 0, of ``values`` [...] in rising order; ties have the mean of theirs."""
    flat = np.asarray(values).ravel()
    order = rising_order(flat)
    ordered = flat[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    ends = np.append(starts[1:], len(flat))
    ranks = np.empty(len(flat))
    ranks[order] = np.repeat((starts + ends - 1) / 2, ends - starts)
    return ranks


def clipped_ranks(ranks: NDArray[np.float64], hidden: int) -> NDArray[np.float64]:
    """Return the `average_ranks` [N] of a map after its ``hidden`` lowest values, all ties whole, became one."""
    return np.where(ranks < hidden, (hidden - 1) / 2, ranks)
