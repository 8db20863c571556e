"""Raw maps on the pixels of the model's input, and what each normalization makes of them."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dualcam.evaluation.input_maps import resize_maps
from dualcam.heatmap import floor_of, lifted
from dualcam.metrics.order import average_ranks, clipped_ranks
from dualcam.types import Normalization


@dataclass(frozen=True)
class Shown:
    """Maps ``values`` [S, H, W] on the input's pixels, and how they are normalized.

    All normalizations are made of the same values and ranks, each of which is made once.
    """

    values: NDArray[np.float32]
    normalizations: tuple[Normalization, ...]
    percentile: float

    def part(self, place: int) -> "Shown":
        """Return the map at ``place``, S = 1."""
        return replace(self, values=self.values[place : place + 1])

    def redrawn(self, raw: NDArray[np.float32]) -> "Shown":
        """Return other raw maps [S, h, w] on the same pixels, under the same normalizations."""
        return replace(self, values=resize_maps(raw, (self.values.shape[1], self.values.shape[2])))

    def heats(self, column: int) -> NDArray[np.float32]:
        """Return the maps [S, H, W] in [0, 1] under one of the normalizations."""
        each = zip(self.values, self._floors(column), self._highs, strict=True)
        return np.stack([lifted(*one) for one in each])

    def ranks(self, column: int) -> NDArray[np.float64]:
        """Return the ranks [S, H * W] of the pixels of `heats`, ties in the middle.

        A normalization keeps the order and makes the lowest values equal. Pixels that are equal after it only because
        it rounds keep their order here.
        """
        floors = self._floors(column)
        hidden = [int(np.count_nonzero(each <= floor)) for each, floor in zip(self.values, floors, strict=True)]
        return np.stack([clipped_ranks(*each) for each in zip(self._ranks, hidden, strict=True)])

    def _floors(self, column: int) -> list[np.float32]:
        return [floor_of(each, self.normalizations[column], percentile=self.percentile) for each in self.values]

    @cached_property
    def _highs(self) -> list[np.float32]:
        return [each.max() for each in self.values]

    @cached_property
    def _ranks(self) -> list[NDArray[np.float64]]:
        return [average_ranks(each) for each in self.values]
