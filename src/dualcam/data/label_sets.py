"""The labels of photos that have several: which, and where each is, in flat arrays."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualcam.data.truth import Boxes, Masks


@dataclass(frozen=True)
class LabelSets:
    """Labels of N photos: ``flat`` [P] class indices, one a (photo, label) pair; ``starts`` [N + 1].

    Photo n owns the pairs ``starts[n]`` to ``starts[n + 1]``, different labels, the main one first. ``boxes`` and
    ``masks`` hold the ground truth of each pair (P entries), None where the layout does not tell whose a box is.
    """

    flat: NDArray[np.int64]
    starts: NDArray[np.int64]
    boxes: Boxes | None = None
    masks: Masks | None = None

    @classmethod
    def of(cls, photos: Iterable[Sequence[int]], boxes: Boxes | None = None, masks: Masks | None = None) -> "LabelSets":
        """Build from one list of labels per photo."""
        lists = [list(labels) for labels in photos]
        counts = np.array([len(labels) for labels in lists], dtype=np.int64)
        flat = np.array([label for labels in lists for label in labels], dtype=np.int64)
        return cls(flat, np.concatenate(([0], np.cumsum(counts))), boxes, masks)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, photo: int) -> NDArray[np.int64]:
        """Return the labels of one photo."""
        return self.flat[self.starts[photo] : self.starts[photo + 1]]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of labels of each photo, [N]."""
        return np.diff(self.starts)

    @property
    def photos(self) -> NDArray[np.int64]:
        """Whose each pair is, [P]."""
        return np.repeat(np.arange(len(self)), self.counts)

    def subset(self, photos: NDArray[np.int64]) -> "LabelSets":
        """Return the labels of ``photos``, in that order."""
        pairs = self.pairs_of(photos)
        return LabelSets(
            self.flat[pairs],
            np.concatenate(([0], np.cumsum(self.counts[photos]))),
            None if self.boxes is None else self.boxes.subset(pairs),
            None if self.masks is None else self.masks.subset(pairs),
        )

    def pairs_of(self, photos: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the pairs of ``photos``, in that order."""
        counts = self.counts[photos]
        ends = np.cumsum(counts)
        return np.repeat(self.starts[photos] - (ends - counts), counts) + np.arange(int(counts.sum()))

    def multi_hot(self, photos: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
        """Return [B, C], 1 at the labels of each of ``photos`` [B], else 0."""
        hot = np.zeros((len(photos), classes), dtype=np.float32)
        hot[np.repeat(np.arange(len(photos)), self.counts[photos]), self.flat[self.pairs_of(photos)]] = 1
        return hot
