"""Photos and ``boxes.csv`` with a header: path, x0, y0, x1, y1 and perhaps mask, split, class, name; a row a box.

Columns are found by name, in any order, and others are ignored. Boxes are XYXY, half-open, in source pixels; a row
with none has its four fields empty. A photo with several boxes, masks or labels has several rows; its main label is
that with the largest total area of boxes, of equal ones the one that comes first. ``class`` is an index,
``name`` the class in words; without both, a photo's folder is its class. Without ``split``, the first folder is the
split where it is train, val or test for all photos.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dualcam.data.csv_rows import photo_rows, row_error
from dualcam.data.label_sets import LabelSets
from dualcam.data.truth import Boxes, Masks
from dualcam.datasets import Dataset, choose_split

PRIORITY = 40
FILE = "boxes.csv"
_EDGES = ("x0", "y0", "x1", "y1")
_SPLITS = ("train", "val", "test")


_Label = tuple[int | None, str]


@dataclass
class _Truth:
    """What the rows of a photo and a label say."""

    line: int
    boxes: list[list[float]] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)

    @property
    def area(self) -> float:
        return sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in self.boxes)


@dataclass
class _Photo:
    """What the rows say about a photo, by label."""

    split: str
    labels: dict[_Label, _Truth] = field(default_factory=dict)

    def ordered(self) -> list[tuple[_Label, _Truth]]:
        """Return the labels, the main one first."""
        return sorted(self.labels.items(), key=lambda item: -item[1].area)


def recognizes(root: Path) -> bool:
    """Whether ``boxes.csv`` is there."""
    return (root / FILE).is_file()


def splits(root: Path) -> list[str]:
    """Return the splits in the order of train, val, test, others; none where rows name none."""
    return _splits(_read_photos(root / FILE))


def read(root: Path, split: str | None) -> Dataset:
    """Read a split; raises `DataError` with file and line number."""
    file = root / FILE
    photos = _read_photos(file)
    present = _splits(photos)
    name = choose_split(root, split, present) if present or split is not None else ""
    classes = _classes(file, photos.values())
    labels = {label: place for place, label in enumerate(classes)}
    chosen = {path: photo for (path, _), photo in photos.items() if photo.split == name}
    pairs = [photo.ordered() for photo in chosen.values()]
    sets = LabelSets.of([labels[name] if index is None else index for (index, name), _ in each] for each in pairs)
    boxes, masks = _truth([truth for each in pairs for _, truth in each])
    return Dataset(
        root,
        name or "all",
        tuple(chosen),
        sets.flat[sets.starts[:-1]],
        len(classes),
        tuple(classes) if all(classes) else None,
        boxes=None if boxes is None else boxes.subset(sets.starts[:-1]),
        masks=None if masks is None else masks.subset(sets.starts[:-1]),
        label_sets=LabelSets(sets.flat, sets.starts, boxes, masks),
    )


def _truth(found: list[_Truth]) -> tuple[Boxes | None, Masks | None]:
    boxes = Boxes.of([one.boxes for one in found]) if any(one.boxes for one in found) else None
    if not any(one.masks for one in found):
        return boxes, None
    return boxes, Masks(tuple(tuple(one.masks) for one in found), ((),) * len(found))


def _splits(photos: dict[tuple[str, str], _Photo]) -> list[str]:
    found = {photo.split for photo in photos.values()} - {""}
    return [name for name in _SPLITS if name in found] + sorted(found - set(_SPLITS))


def _read_photos(file: Path) -> dict[tuple[str, str], _Photo]:
    """Return what is said of each (path, split)."""
    photos: dict[tuple[str, str], _Photo] = {}
    by_folder = True
    for line, row in photo_rows(file, _EDGES):
        path = row["path"]
        folder = PurePosixPath(path).parent.name
        name = row.get("name", "") or ("" if "class" in row else folder)
        label: _Label = (_class_index(file, line, row["class"]) if "class" in row else None, name)
        photo = photos.setdefault((path, row.get("split", "")), _Photo(row.get("split", "")))
        same = next((one for one in photo.labels if name and one[1] == name and one != label), None)
        if same is not None:
            expected = f"{name} to be class {same[0]} in {path}, as in line {photo.labels[same].line}"
            raise row_error(file, line, expected, str(label[0]))
        truth = photo.labels.setdefault(label, _Truth(line))
        texts = [row[edge] for edge in _EDGES]
        if any(texts):
            truth.boxes.append(_box(file, line, texts))
        if row.get("mask"):
            truth.masks.append(row["mask"])
        by_folder = by_folder and "split" not in row and PurePosixPath(path).parts[0] in _SPLITS
    if by_folder:
        for (path, _), photo in photos.items():
            photo.split = PurePosixPath(path).parts[0]
    return photos


def _box(file: Path, line: int, texts: list[str]) -> list[float]:
    expected = "x0,y0,x1,y1 with 0 <= x0 <= x1 and 0 <= y0 <= y1"
    try:
        x0, y0, x1, y1 = map(float, texts)
    except ValueError:
        raise row_error(file, line, expected, ",".join(texts)) from None
    if not (0 <= x0 <= x1 < math.inf and 0 <= y0 <= y1 < math.inf):
        raise row_error(file, line, expected, ",".join(texts))
    return [x0, y0, x1, y1]


def _class_index(file: Path, line: int, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise row_error(file, line, "a class index from 0 on", text)
    return int(text)


def _classes(file: Path, photos: Collection[_Photo]) -> list[str]:
    """Return the class names of all splits by index; "" where an index has no name."""
    indexed: dict[int, str] = {}
    found = sorted(
        ((label, truth.line) for photo in photos for label, truth in photo.labels.items()), key=lambda item: item[1]
    )
    for (index, name), line in found:
        if index is not None:
            before = indexed.get(index)
            if name and before and before != name:
                raise row_error(file, line, f"class {index} to be named {before} as before", name)
            indexed[index] = name or before or ""
    if indexed:
        return [indexed.get(index, "") for index in range(max(indexed) + 1)]
    return sorted({name for (_, name), _ in found})
