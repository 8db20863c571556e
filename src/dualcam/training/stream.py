"""Features without a cache: every epoch decodes, augments and forwards again."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualcam.data.views import PhotoViews, SingleViews
from dualcam.training.cache import photo_loader
from dualcam.training.objective import Features
from dualcam.training.passes import Passes
from dualcam.training.processes import ALONE, Processes


def sharing(features: Features) -> Processes:
    """Return the processes that have a part each of every batch of ``features``: a stream's; a cache is read whole."""
    return features.processes if isinstance(features, FeatureStream) else ALONE


@dataclass
class FeatureStream:
    """Computes features batch by batch; broken photos are left out, and remembered in ``broken``.

    Of each batch ``processes`` have a part each, which may be empty.
    """

    passes: Passes
    photos: PhotoViews
    workers: int
    processes: Processes = ALONE
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
        """Yield (rows, features) in ``order``, an item a batch; augmented views are drawn anew for each ``epoch``."""
        batches = [np.sort(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]
        parts = [batch[self.processes.rank :: self.processes.world] for batch in batches]
        views = SingleViews(self.photos, np.concatenate(parts).tolist(), epoch)
        ends = np.cumsum([len(part) for part in parts])
        chosen = [list(range(end - len(part), end)) for end, part in zip(ends.tolist(), parts, strict=True)]
        loaded = photo_loader(views, [part for part in chosen if part], self.workers)
        for part in chosen:
            items = next(loaded) if part else []
            rows = [row for row, tensor in items if isinstance(tensor, Tensor)]
            images = [tensor for _, tensor in items if isinstance(tensor, Tensor)]
            for row, text in items:
                if isinstance(text, str):
                    self.broken[self.photos.dataset.paths[row // self.views]] = text
            features = self.passes(torch.stack(images)) if rows else torch.zeros(0, 0)
            yield np.asarray(rows, dtype=np.int64), features
