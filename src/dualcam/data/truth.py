"""Ground truth of a dataset: boxes and masks, photo by photo, in flat arrays that stay small for a million photos."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Boxes:
    """Boxes of N photos: ``corners`` [M, 4] XYXY in source pixels as the files give them, ``starts`` [N + 1].

    Photo n owns ``corners[starts[n]:starts[n + 1]]``, none where the two are equal.
    """

    corners: NDArray[np.float64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, photos: Iterable[Sequence[Sequence[float]]]) -> "Boxes":
        """Build from one list of boxes per photo."""
        lists = [list(boxes) for boxes in photos]
        counts = np.array([len(boxes) for boxes in lists], dtype=np.int64)
        flat = np.array([box for boxes in lists for box in boxes], dtype=np.float64).reshape(-1, 4)
        return cls(flat, np.concatenate(([0], np.cumsum(counts))))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, photo: int) -> NDArray[np.float64]:
        """Return the boxes [G, 4] of one photo."""
        return self.corners[self.starts[photo] : self.starts[photo + 1]]

    def subset(self, photos: NDArray[np.int64]) -> "Boxes":
        """Return the boxes of ``photos``, in that order."""
        return Boxes.of([self[int(photo)].tolist() for photo in photos])


@dataclass(frozen=True)
class Masks:
    """Mask files of N photos, relative to the dataset's root: any number of instances each, and what to ignore.

    A mask is nonzero where the object is; pixels of ``ignored`` masks outside of all instances count for nothing.
    """

    instances: tuple[tuple[str, ...], ...]
    ignored: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.instances)

    def subset(self, photos: NDArray[np.int64]) -> "Masks":
        """Return the masks of ``photos``, in that order."""
        return Masks(
            tuple(self.instances[int(photo)] for photo in photos), tuple(self.ignored[int(photo)] for photo in photos)
        )
