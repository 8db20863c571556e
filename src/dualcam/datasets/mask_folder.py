"""One folder of photos a class, optionally under ``train/`` and so on, and ``masks/`` with a PNG of the same name.

The mask of ``[split/]class/a.jpg`` is ``masks/[split/]class/a.png``, ``masks/class/a.png`` or ``masks/a.png``, the
first that is there; a photo may have none.
"""

import os
from pathlib import Path, PurePosixPath

from dualcam.data.truth import Masks
from dualcam.datasets import Dataset, image_folder
from dualcam.errors import DataError

PRIORITY = 80
FOLDER = "masks"


def recognizes(root: Path) -> bool:
    """Whether ``masks`` has a mask of some photo: a class of photos may be called masks too."""
    files = _masks(root)
    if not files or not image_folder.recognizes(root):
        return False
    names: list[str | None] = [*image_folder.splits(root)]
    for name in names or [None]:
        dataset = image_folder.read(root, name, skip=(FOLDER,))
        if any(_mask_of(path, files) for path in dataset.paths):
            return True
    return False


def splits(root: Path) -> list[str]:
    """Return the split folders."""
    return image_folder.splits(root)


def read(root: Path, split: str | None) -> Dataset:
    """Read the photos and find their masks; raises `DataError` where one mask would be that of two photos."""
    files = _masks(root)
    dataset = image_folder.read(root, split, skip=(FOLDER,))
    owners: dict[str, str] = {}
    found: list[tuple[str, ...]] = []
    for path in dataset.paths:
        mask = _mask_of(path, files)
        if mask is not None and owners.setdefault(mask, path) != path:
            raise DataError(
                f"{root / mask} could be the mask of {owners[mask]} and of {path}; put masks in folders of the "
                "same names as the photos'"
            )
        found.append((mask,) if mask else ())
    masks = Masks(tuple(found), ((),) * len(found))
    return Dataset(
        root, dataset.split, dataset.paths, dataset.labels, dataset.classes, dataset.class_names, masks=masks
    )


def _masks(root: Path) -> frozenset[str]:
    """Return the PNG files below ``masks``, relative to the root."""
    found = []
    for folder, _, names in os.walk(root / FOLDER):
        below = Path(folder).relative_to(root).as_posix()
        found += [f"{below}/{name}" for name in names if name.endswith(".png")]
    return frozenset(found)


def _mask_of(path: str, files: frozenset[str]) -> str | None:
    photo = PurePosixPath(path).with_suffix(".png")
    forms = [PurePosixPath(FOLDER, *photo.parts[start:]).as_posix() for start in range(len(photo.parts))]
    return next((form for form in forms if form in files), None)
