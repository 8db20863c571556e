"""One folder of photos a class, optionally under ``train/`` and ``val/`` (or ``test/``)."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from dualcam.data.photos import is_photo_name
from dualcam.datasets import Dataset
from dualcam.errors import DataError

PRIORITY = 90
SPLITS = ("train", "val", "test")


def recognizes(root: Path) -> bool:
    """Whether any subfolder, or a split's, holds photos."""
    folders = [root / split for split in splits(root)] or [root]
    return any(next(_photos(folder), None) is not None for parent in folders for folder in _class_folders(parent))


def splits(root: Path) -> list[str]:
    """Return the split folders; a root that holds ``train`` beside class folders of photos has none."""
    found = [split for split in SPLITS if (root / split).is_dir() and _class_folders(root / split)]
    return found if "train" in found else []


def read(root: Path, split: str | None, skip: Collection[str] = ()) -> Dataset:
    """Read the photos; classes are the folder names in sorted order, as torchvision's ImageFolder has them.

    Folders in ``skip`` are no classes.
    """
    present = splits(root)
    if split is not None and split not in present:
        raise DataError(f"{root} has no split {split!r}; it has {', '.join(present) or 'none'}")
    split = split or ("train" if present else "")
    home = root / split
    folders = [folder for folder in _class_folders(home) if folder.name not in skip]
    paths: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        for photo in _photos(folder):
            paths.append(os.path.relpath(photo, root))
            labels.append(label)
    names = tuple(folder.name for folder in folders)
    return Dataset(root, split or "all", tuple(paths), np.asarray(labels, dtype=np.int64), len(names), names)


def _class_folders(home: Path) -> list[Path]:
    return sorted(item for item in home.iterdir() if item.is_dir() and not item.name.startswith("."))


def _photos(folder: Path) -> Iterator[Path]:
    for directory, subfolders, files in os.walk(folder):
        subfolders.sort()
        for name in sorted(files):
            if not name.startswith(".") and is_photo_name(Path(name)):
                yield Path(directory, name)
