"""COCO's run lengths: a mask read column by column, as counts of 0s, 1s, 0s, ... beginning with 0s.

Lin et al., "Microsoft COCO: Common Objects in Context" (ECCV 2014); the uncompressed form of the COCO API.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def encode(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """Return the counts of ``mask`` [H, W]; they sum to H x W."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return (0, *counts) if flat.size and flat[0] else tuple(counts)


def decode(counts: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Return the mask [H, W] of ``counts``; raises `ValueError` where they are not those of H x W pixels."""
    if sum(counts) != height * width:
        raise ValueError(f"run lengths of {height} x {width} pixels must sum to {height * width}; got {sum(counts)}")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")


def area(counts: Sequence[int]) -> int:
    """Return how many pixels of the mask are set."""
    return sum(counts[1::2])
