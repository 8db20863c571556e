"""Pseudo-boxes and masks of photos: the records that the run fills and the formats write.

Boxes are XYXY, half-open, in pixels of the upright photo (EXIF applied). A score is the softmax probability of the
class; ``evidence`` is the share [0, 1] of the map's sum that lies in the box's component.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """One component of a map: its box, its share of the evidence, its mask as run lengths (see `rle`)."""

    box: tuple[int, int, int, int]
    evidence: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class ClassRegions:
    """What was found for one class of a photo, best first; no regions where nothing speaks for the class."""

    index: int
    name: str
    score: float
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Annotation:
    """A photo with its pseudo-boxes.

    ``photo`` is how the files name it, ``path`` where it lies; ``width`` and ``height`` are those of the upright photo.
    """

    photo: str
    path: str
    width: int
    height: int
    classes: tuple[ClassRegions, ...]

    @property
    def boxes(self) -> list[tuple[ClassRegions, Region]]:
        """All pseudo-boxes, each with its class."""
        return [(found, region) for found in self.classes for region in found.regions]


def category_names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """Return a name of its own for each of ``count`` classes: repeated ones get their index, missing ones are it.

    Readers of the formats tell classes apart by name, and ImageNet has two that are called "crane".
    """
    given = tuple(names) if names is not None else tuple(map(str, range(count)))
    often = Counter(given)
    return tuple(f"{name} ({index})" if often[name] > 1 else name for index, name in enumerate(given))
