"""Features without a cache: every epoch decodes, augments and forwards again."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualcam.data.views import PhotoViews, SingleViews
from dualcam.heads import Head
from dualcam.model import DualBranch
from dualcam.training.cache import extract, photo_loader


@dataclass
class FeatureStream:
    """Computes features batch by batch; broken photos are left out, and remembered in ``broken``."""

    model: DualBranch
    head: Head
    photos: PhotoViews
    workers: int
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """All photos count as usable until one turns out broken."""
        return np.ones(len(self.photos), dtype=bool)

    @property
    def views(self) -> int:
        """Number of views V of a photo."""
        return self.photos.recipe.count

    def batches(
        self, order: NDArray[np.int64], batch_size: int, epoch: int
    ) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Yield (rows, features) in ``order``; augmented views are drawn anew for each ``epoch``."""
        sorted_batches = [np.sort(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]
        views = SingleViews(self.photos, np.concatenate(sorted_batches).tolist(), epoch)
        for items in photo_loader(views, batch_size, self.workers):
            rows = [row for row, tensor in items if isinstance(tensor, Tensor)]
            images = [tensor for _, tensor in items if isinstance(tensor, Tensor)]
            for row, text in items:
                if isinstance(text, str):
                    self.broken[self.photos.dataset.paths[row // self.views]] = text
            if rows:
                yield np.asarray(rows, dtype=np.int64), extract(self.model, self.head, torch.stack(images))
