"""IoU curves as one bit a threshold: small enough to keep for every image of every cell of a grid.

With 256 cuts and three deltas an image takes 96 bytes instead of 2048: bootstrap and paired comparison need hits only.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dualcam.metrics.localization import V2_DELTAS


def pack_hits(ious: ArrayLike, deltas: Sequence[float] = V2_DELTAS) -> NDArray[np.uint8]:
    """Return whether each IoU of curves [..., T] reaches each delta, as bits: uint8 [..., D, ceil(T / 8)]."""
    curves = np.asarray(ious, dtype=np.float64)
    return np.packbits(curves[..., None, :] >= np.asarray(deltas)[:, None], axis=-1)


def unpack_hits(packed: NDArray[np.uint8], thresholds: int) -> NDArray[np.bool_]:
    """Return the hits [..., D, T] that were packed; ``thresholds`` is T."""
    return np.unpackbits(packed, axis=-1, count=thresholds).astype(np.bool_)


def hits_at(packed: NDArray[np.uint8], positions: ArrayLike) -> NDArray[np.bool_]:
    """Return the hits [..., D] at ``positions`` [D] without unpacking the others."""
    columns = np.broadcast_to(np.asarray(positions), packed.shape[-2:-1])
    rows = np.arange(packed.shape[-2])
    return np.asarray((packed[..., rows, columns // 8] >> (7 - columns % 8)) & 1, dtype=np.bool_)


def count_packed(packed: NDArray[np.uint8], thresholds: int, *, chunk: int = 4096) -> NDArray[np.int64]:
    """Return per delta and threshold how many images hit, int64 [D, T], of ``packed`` [N, D, ceil(T / 8)]."""
    counts = np.zeros((packed.shape[1], thresholds), dtype=np.int64)
    for start in range(0, len(packed), chunk):
        counts += unpack_hits(packed[start : start + chunk], thresholds).sum(0, dtype=np.int64)
    return counts
