"""The centre box: what a box in the middle of the photo scores without a look at it; print it beside every method.

A baseline that weakly supervised localization has to beat: the centre-gaussian of Choe et al., CVPR 2020, as a
box.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

SHARES = tuple(round(0.05 * step, 2) for step in range(1, 21))
"""Areas of the boxes that are tried, as shares of the photo's."""


def center_box(share: float, grid: int = 224) -> NDArray[np.float64]:
    """Return the box [4] (XYXY, half-open, grid pixels) of area ``share`` in (0, 1] of the grid, in its middle.

    Its sides keep the photo's proportions, whatever these were before the photo was squashed to the square grid.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1] of the photo's area; got {share}")
    margin = grid * (1 - share**0.5) / 2
    return np.array([margin, margin, grid - margin, grid - margin])


def center_ious(
    truth: NDArray[np.float64], grid: int = 224, shares: Sequence[float] = SHARES, *, inclusive: bool = False
) -> NDArray[np.float64]:
    """Return per share [S] the best IoU of the centre box with any of ``truth`` [G, 4] (XYXY, grid pixels).

    ``inclusive`` counts corners as pixels inside, as the reference box evaluation does: a side is one longer than the
    difference of its corners. Without true boxes: 0.
    """
    if not len(truth):
        return np.zeros(len(shares))
    more = 1.0 if inclusive else 0.0
    boxes = np.stack([center_box(share, grid) for share in shares])[:, None]
    boxes[..., 2:] -= more
    overlap = np.minimum(boxes[..., 2:], truth[:, 2:]) - np.maximum(boxes[..., :2], truth[:, :2]) + more
    shared = overlap.clip(min=0).prod(-1)
    areas = [(each[..., 2:] - each[..., :2] + more).prod(-1) for each in (boxes, truth)]
    union = areas[0] + areas[1] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0).max(1))


def best_share(ious: ArrayLike, delta: float) -> int:
    """Return the position of the share that most images of ``ious`` [N, S] reach IoU ``delta`` with.

    Of equals the smallest. Choose it on images other than those it is reported on, as thresholds are.
    """
    return int((np.asarray(ious) >= delta).sum(0).argmax())
