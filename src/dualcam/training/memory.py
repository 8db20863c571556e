"""Features that lie in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class InMemory:
    """Rows of features [photos * V, ...], of any type; the row of a photo's view v is photo * V + v."""

    values: Tensor
    views: int = 1
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """All photos."""
        return np.ones(len(self.values) // self.views, dtype=bool)

    def batches(
        self, order: NDArray[np.int64], batch_size: int, epoch: int
    ) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Yield (rows, features) in ``order``, each batch in ascending order, as a cache does."""
        del epoch
        for start in range(0, len(order), batch_size):
            rows = np.sort(order[start : start + batch_size])
            yield rows, self.values[torch.from_numpy(rows)]
