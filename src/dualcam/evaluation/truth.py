"""A photo's ground truth on the square grid where maps are compared with it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualcam.data.photos import open_mask
from dualcam.evaluation.localization import Truth
from dualcam.evaluation.photos import Photos
from dualcam.evaluation.views import GRID
from dualcam.metrics.box_curve import Mode, scale_boxes
from dualcam.metrics.pixel_ap import instance_mask


@dataclass(frozen=True)
class Target:
    """A photo's ground truth on the 224 x 224 grid: boxes [G, 4] or None, mask of 0, 1 and 255 (ignored) or None.

    ``label`` is -1 where the photo's class is not the model's.
    """

    label: int
    boxes: NDArray[np.float64] | None
    mask: NDArray[np.uint8] | None

    @property
    def known(self) -> frozenset[Truth]:
        """What maps can be compared with."""
        known: dict[Truth, bool] = {
            "boxes": self.boxes is not None and len(self.boxes) > 0,
            "masks": self.mask is not None,
        }
        return frozenset(truth for truth, there in known.items() if there)


def find_target(photos: Photos, position: int, size: tuple[int, int], mode: Mode) -> Target:
    """Return the ground truth of a photo of ``size`` (width, height); raises `PhotoError` for a broken mask."""
    part, place = photos.locate(position)
    stated = size if part.sizes is None else (int(part.sizes[place, 0]), int(part.sizes[place, 1]))
    boxes = None if part.boxes is None else scale_boxes(part.boxes[place], stated, grid=GRID, mode=mode)
    mask = None
    if part.masks is not None:
        instances = [open_mask(part.root / path) for path in part.masks.instances[place]]
        ignored = [open_mask(part.root / path) for path in part.masks.ignored[place]]
        mask = instance_mask(instances, ignored, grid=GRID)
    return Target(int(photos.labels[position]), boxes, mask)
