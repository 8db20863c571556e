"""Open Images as downloaded: ``{train,validation,test}/`` and ``*-annotations-object-segmentation.csv``, masks.

Benenson et al., "Large-scale interactive object segmentation with human annotators" (CVPR 2019); V5 to V7. A photo's
labels are the classes of its masks, the main one that with the largest total area of boxes. Photos and masks
are what has been downloaded: annotated photos that are not in the split's folder are left out, since few people have
all nine million. Masks may be of another scale than their photo.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from dualcam.data.label_sets import LabelSets
from dualcam.data.lines import fields_of, line_error, numbered_lines
from dualcam.data.photos import is_photo_name
from dualcam.data.places import find_prefix
from dualcam.data.truth import Masks
from dualcam.datasets import Dataset, choose_split
from dualcam.errors import DataError

PRIORITY = 23
_FOLDERS = {"train": "train", "val": "validation", "test": "test"}
_COLUMNS = ("MaskPath", "ImageID", "LabelName", "BoxXMin", "BoxXMax", "BoxYMin", "BoxYMax")
_NAMES = ("class-descriptions-boxable.csv", "oidv7-class-descriptions.csv", "class-descriptions.csv")


def recognizes(root: Path) -> bool:
    """Whether a split has its table of masks."""
    return bool(splits(root))


def splits(root: Path) -> list[str]:
    """Return those of train, val ("validation" on disk) and test that have a table of masks."""
    return [name for name in _FOLDERS if _table(root, name).is_file()]


def read(root: Path, split: str | None) -> Dataset:
    """Read a split; raises `DataError` with file and line number.

    Classes are the sorted ids of ``classes-segmentation.txt`` where it is there, else of all splits' tables.
    """
    name = choose_split(root, "val" if split == "validation" else split, splits(root))
    photos, prefix = _photos(root, _FOLDERS[name])
    found: dict[str, dict[str, tuple[float, tuple[str, ...]]]] = {}
    for photo, label, mask, area in _rows(_table(root, name)):
        if photo in photos:
            labels = found.setdefault(photo, {})
            before, masks = labels.get(label, (0.0, ()))
            labels[label] = (before + area, (*masks, mask))
    ordered = {photo: sorted(labels, key=lambda one: (-labels[one][0], one)) for photo, labels in sorted(found.items())}
    classes = _classes(root)
    places = {label: place for place, label in enumerate(classes)}
    unknown = next((label for labels in ordered.values() for label in labels if label not in places), None)
    if unknown is not None:
        raise DataError(f"{_table(root, name)} has class {unknown}, which classes-segmentation.txt has not; mend one")
    folder = _FOLDERS[name]
    where = ["masks/", f"masks/{folder}/", f"{folder}-masks/", f"masks/{folder}-masks/", f"{folder}/masks/", ""]
    below = find_prefix(root, [found[photo][labels[0]][1][0] for photo, labels in ordered.items()], where)
    sets = LabelSets.of(
        ([places[label] for label in labels] for labels in ordered.values()),
        masks=_masks(below, (found[photo][label][1] for photo, labels in ordered.items() for label in labels)),
    )
    return Dataset(
        root,
        name,
        tuple(f"{prefix}{photos[photo]}" for photo in ordered),
        sets.flat[sets.starts[:-1]],
        len(classes),
        _names(root, classes),
        masks=_masks(below, (found[photo][labels[0]][1] for photo, labels in ordered.items())),
        label_sets=sets,
    )


def _masks(below: str, files: Iterable[tuple[str, ...]]) -> Masks:
    instances = tuple(tuple(below + mask for mask in masks) for masks in files)
    return Masks(instances, ((),) * len(instances))


def _table(root: Path, name: str) -> Path:
    file = f"{_FOLDERS[name]}-annotations-object-segmentation.csv"
    return next(
        (root / home / file for home in ("annotations", "metadata") if (root / home / file).is_file()), root / file
    )


def _photos(root: Path, folder: str) -> tuple[dict[str, str], str]:
    """Return the file name of each image id, and the folder they are in."""
    for prefix in (f"{folder}/", f"images/{folder}/", f"{folder}/data/"):
        if (root / prefix).is_dir():
            files = (entry.name for entry in os.scandir(root / prefix))
            names = {name.rpartition(".")[0]: name for name in files if is_photo_name(Path(name))}
            if names:
                return names, prefix
    raise DataError(
        f"{root} has no photos in {folder}/ or images/{folder}/; expected <ImageID>.jpg files in one of them"
    )


def _rows(file: Path) -> Iterator[tuple[str, str, str, float]]:
    """Yield (image id, class id, mask, share of the photo's area that its box covers)."""
    columns: list[int] = []
    count = 0
    expected = f"a header with {','.join(_COLUMNS)}"
    for row, (_, text) in enumerate(numbered_lines(file)):
        fields = text.split(",")
        if not row:
            if not set(_COLUMNS) <= set(fields):
                raise line_error(file, row, expected)
            columns, count = [fields.index(column) for column in _COLUMNS], len(fields)
            expected = f"{count} fields, edges of the box between 0 and 1"
            continue
        if len(fields) != count:
            raise line_error(file, row, expected)
        mask, photo, label, *edges = (fields[column] for column in columns)
        try:
            x0, x1, y0, y1 = map(float, edges)
        except ValueError:
            raise line_error(file, row, expected) from None
        if not (0 <= x0 <= x1 <= 1 and 0 <= y0 <= y1 <= 1 and mask and photo and label):
            raise line_error(file, row, expected)
        yield photo, label, mask, (x1 - x0) * (y1 - y0)


def _classes(root: Path) -> tuple[str, ...]:
    for file in (root / "classes-segmentation.txt", root / "metadata/classes-segmentation.txt"):
        if file.is_file():
            return tuple(sorted({text for _, text in numbered_lines(file)}))
    return tuple(sorted({label for name in splits(root) for _, label, _, _ in _rows(_table(root, name))}))


def _names(root: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in words where a table of them tells all classes apart, else the ids."""
    for file in (root / home / name for name in _NAMES for home in ("", "annotations", "metadata")):
        if file.is_file():
            known = {label: words for _, (label, words) in fields_of(file, 2, "'<class id>,<name>'", ",")}
            names = tuple(known.get(label, label) for label in classes)
            return names if len(set(names)) == len(names) else classes
    return classes
