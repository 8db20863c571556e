"""CUB-200-2011 as downloaded: ``images.txt``, ``image_class_labels.txt``, ``train_test_split.txt``, ``images/``.

Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset" (2011). The folder may be ``CUB_200_2011`` or the one above it.
``bounding_boxes.txt`` has one box a photo as x, y, width, height. ``segmentations/`` is a download of its own; its
grey levels count the people who marked a pixel, so any but black is the bird.
"""

from pathlib import Path

import numpy as np

from dualcam.data.lines import fields_of, to_number
from dualcam.data.places import find_home
from dualcam.data.truth import Boxes, Masks
from dualcam.datasets import Dataset, choose_split
from dualcam.errors import DataError

PRIORITY = 21
SPLITS = ("train", "test")
_BOX = "'<image id> <x> <y> <width> <height>', none negative"


def recognizes(root: Path) -> bool:
    """Whether the list of photos and the list of splits are there."""
    home = find_home(root, ("CUB_200_2011",), "train_test_split.txt")
    return home is not None and (home / "images.txt").is_file()


def splits(root: Path) -> list[str]:
    """Return train and test."""
    return list(SPLITS)


def read(root: Path, split: str | None) -> Dataset:
    """Read a split; raises `DataError` with file and line number."""
    name = choose_split(root, split, SPLITS)
    home = find_home(root, ("CUB_200_2011",), "train_test_split.txt") or root
    photos = {image: photo for _, (image, photo) in fields_of(home / "images.txt", 2, "'<image id> <photo>'")}
    wanted = "1" if name == "train" else "0"
    chosen = [image for image, flag in _table(home / "train_test_split.txt", photos, "0 or 1") if flag == wanted]
    names = _class_names(home)
    classes = dict(_table(home / "image_class_labels.txt", photos, "a class id", dict.fromkeys(names)))
    _all_there(home / "image_class_labels.txt", chosen, classes)
    places = {number: place for place, number in enumerate(names)}
    labels = np.array([places[classes[image]] for image in chosen], dtype=np.int64)
    prefix = "" if home == root else f"{home.name}/"
    return Dataset(
        root,
        name,
        tuple(f"{prefix}images/{photos[image]}" for image in chosen),
        labels,
        len(names),
        tuple(names.values()),
        boxes=_boxes(home / "bounding_boxes.txt", photos, chosen),
        masks=_masks(root, home, [photos[image] for image in chosen]),
    )


def _class_names(home: Path) -> dict[str, str]:
    return {number: name for _, (number, name) in fields_of(home / "classes.txt", 2, "'<class id> <class>'")}


def _table(
    file: Path, photos: dict[str, str], meaning: str, values: dict[str, None] | None = None
) -> list[tuple[str, str]]:
    """Return (image id, value) of each line; ids are those of ``photos``, values those given (None: 0 and 1)."""
    expected = f"'<image id> <{meaning}>' with ids of images.txt and classes.txt"
    rows = []
    for number, (image, value) in fields_of(file, 2, expected):
        if image not in photos or value not in (values if values is not None else ("0", "1")):
            raise DataError(f"{file}, line {number}: expected {expected}, got '{image} {value}'; mend the line")
        rows.append((image, value))
    return rows


def _all_there(file: Path, chosen: list[str], found: dict[str, str]) -> None:
    lacking = next((image for image in chosen if image not in found), None)
    if lacking is not None:
        raise DataError(f"{file} has no line of image {lacking}, which the other files name; restore the file")


def _boxes(file: Path, photos: dict[str, str], chosen: list[str]) -> Boxes | None:
    if not file.is_file():
        return None
    found: dict[str, list[list[float]]] = {}
    for number, (image, *texts) in fields_of(file, 5, _BOX):
        x, y, width, height = (to_number(text, file, number, _BOX) for text in texts)
        if image not in photos or min(x, y, width, height) < 0:
            got = " ".join([image, *texts])
            raise DataError(f"{file}, line {number}: expected {_BOX}, with an id of images.txt, got {got!r}; mend it")
        found.setdefault(image, []).append([x, y, x + width, y + height])
    return Boxes.of([found.get(image, []) for image in chosen]) if found else None


def _masks(root: Path, home: Path, photos: list[str]) -> Masks | None:
    folder = next((parent / "segmentations" for parent in (home, root) if (parent / "segmentations").is_dir()), None)
    if folder is None:
        return None
    prefix = folder.relative_to(root).as_posix()
    masks = tuple((f"{prefix}/{Path(photo).with_suffix('.png').as_posix()}",) for photo in photos)
    return Masks(masks, ((),) * len(photos))
