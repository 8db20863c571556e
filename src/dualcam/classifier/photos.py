"""Photos of an epoch: which process takes which, in batches that do not depend on how many processes there are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualcam.data.preprocessing import Preprocessing
from dualcam.data.views import ViewRecipe, open_or_tell, view
from dualcam.datasets import Dataset
from dualcam.training.cache import photo_loader
from dualcam.training.processes import Processes


@dataclass(frozen=True)
class Batch:
    """Positions [b] and images [b, 3, H, W] of the photos that could be read, and why the others could not."""

    positions: NDArray[np.int64]
    images: Tensor
    broken: dict[str, str]


class EpochPhotos(torch.utils.data.Dataset[tuple[int, Tensor | str]]):
    """A view of each photo, drawn by (seed, epoch, position): the same in whichever process."""

    def __init__(self, dataset: Dataset, preprocessing: Preprocessing, recipe: ViewRecipe, epoch: int) -> None:
        self.dataset, self.preprocessing, self.recipe, self.epoch = dataset, preprocessing, recipe, epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> tuple[int, Tensor | str]:
        image = open_or_tell(self.dataset, position)
        if isinstance(image, str):
            return position, image
        seeds = (self.recipe.seed, self.epoch, position, 1)  # view 0 would be the whole photo
        return position, view(image, self.preprocessing, self.recipe, seeds)


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of an epoch, a function of (seed, epoch)."""
    return np.random.default_rng((seed, 1, epoch)).permutation(count)


def deal(order: NDArray[np.int64], batch_size: int, processes: Processes) -> list[list[int]]:
    """Return this process's part of each batch of ``batch_size``: every process has as many parts, some empty."""
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [batch[processes.rank :: processes.world].tolist() for batch in batches]


def load_batches(photos: EpochPhotos, parts: Sequence[list[int]], workers: int) -> Iterator[Batch]:
    """Yield a `Batch` for each of ``parts``, decoded by ``workers`` processes (0: in this one)."""
    size = photos.preprocessing.size
    loaded = photo_loader(photos, [part for part in parts if part], workers)
    for part in parts:
        items = next(loaded) if part else []
        good = [(position, tensor) for position, tensor in items if isinstance(tensor, Tensor)]
        yield Batch(
            np.array([position for position, _ in good], dtype=np.int64),
            torch.stack([tensor for _, tensor in good]) if good else torch.zeros(0, 3, *size),
            {photos.dataset.paths[position]: text for position, text in items if isinstance(text, str)},
        )
