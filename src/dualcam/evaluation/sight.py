"""One map beside the truth: what localization is measured of, each part made once, when it is first asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dualcam.evaluation.levels import CUTS, joint_levels
from dualcam.evaluation.truth import Target
from dualcam.heatmap import normalize
from dualcam.metrics.box_curve import BoxCurve, box_curve
from dualcam.types import Normalization

if TYPE_CHECKING:
    from dualcam.evaluation.measure import Protocol


@dataclass(frozen=True)
class Sight:
    """A map's ``values`` [224, 224] on the square grid over its photo, not normalized, and the photo's truth there."""

    values: NDArray[np.float32]
    target: Target
    protocol: "Protocol"

    @property
    def boxes(self) -> NDArray[np.float64]:
        """The true boxes [G, 4], XYXY, for who asks for "boxes"."""
        assert self.target.boxes is not None
        return self.target.boxes

    @property
    def mask(self) -> NDArray[np.uint8]:
        """The true mask [224, 224] of 0, 1 and 255 (ignored), for who asks for "masks"."""
        assert self.target.mask is not None
        return self.target.mask

    @property
    def heats(self) -> Iterator[NDArray[np.float32]]:
        """The map [H, W] in [0, 1] under each normalization."""
        return (normalize(self.values, how, percentile=self.protocol.percentile) for how in self._normalizations)

    @property
    def best(self) -> NDArray[np.float64]:
        """The IoU [normalizations, 256] at every cut of the best of all contours' boxes with any true box."""
        return self._curve.any.reshape(-1, CUTS)

    @property
    def largest(self) -> NDArray[np.float64]:
        """The IoU [normalizations, 256] at every cut of the largest contour's box with the true ones that count."""
        single = self._curve.largest_first if self.protocol.first_box else self._curve.largest
        return single.reshape(-1, CUTS)

    @property
    def flat(self) -> NDArray[np.bool_]:
        """Whether nothing lies above level 0, [normalizations]: a map of zeros points nowhere."""
        levels, cuts = self._levels
        return np.asarray(cuts[:, 0] == int(levels.max()))

    @property
    def _normalizations(self) -> tuple[Normalization, ...]:
        return self.protocol.normalizations

    @cached_property
    def _levels(self) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
        return joint_levels(self.values, self._normalizations, self.protocol.percentile)

    @cached_property
    def _curve(self) -> BoxCurve:
        levels, cuts = self._levels
        return box_curve(levels, cuts.ravel(), self.boxes, mode=self.protocol.mode)
