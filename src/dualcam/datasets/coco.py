"""COCO's JSON, ``annotations/instances_<split><year>.json`` or ``annotations.json``, and its photos.

Lin et al., "Microsoft COCO: Common Objects in Context" (ECCV 2014). A photo's labels are the categories of its
objects, the main one that with the largest total area of boxes; crowds (``iscrowd``) and photos without any object
are left out. Polygons and run lengths are not read: `Dataset.masks` names files. The file is parsed at once,
but segmentations are dropped on the way, so a split needs little more memory than its file is large.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from dualcam.data.label_sets import LabelSets
from dualcam.data.places import find_prefix
from dualcam.data.truth import Boxes
from dualcam.data.voc_xml import Corners, boxes_by_class
from dualcam.datasets import Dataset, choose_split
from dualcam.errors import DataError

PRIORITY = 31
_SPLIT_FILE = re.compile(r"(?:instances_)?([a-z]+)((?:19|20)\d\d)?\.json")
_SPLITS = ("train", "val", "test")
_WHOLE = ("annotations.json", "instances.json", "_annotations.coco.json", "annotations/annotations.json")


def recognizes(root: Path) -> bool:
    """Whether there is such a file, whose name says so, or which begins with COCO's keys."""
    return bool(_files(root)) or _whole(root) is not None


def splits(root: Path) -> list[str]:
    """Return the splits; none where there is one file for all. A year stays where two files differ only by it."""
    return list(_files(root))


def read(root: Path, split: str | None) -> Dataset:
    """Read a split; classes are the categories in the order of their ids. Raises `DataError` naming file and record."""
    files = _files(root)
    name = choose_split(root, split, list(files)) if files or split is not None else "all"
    file = files[name] if files else _whole(root)
    assert file is not None, "recognizes() found it"
    content = _load(file)
    try:
        categories = {int(item["id"]): str(item["name"]) for item in content["categories"]}
        photos = {int(item["id"]): item for item in content["images"]}
        objects = _objects(file, content["annotations"], categories, photos)
        listed = sorted(photo for photo in photos if objects.get(photo))
        names = [str(photos[photo]["file_name"]) for photo in listed]
        sizes = [(int(photos[photo].get("width", 0)), int(photos[photo].get("height", 0))) for photo in listed]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{file} is not as COCO has it ({type(error).__name__}: {error}); expected lists images (id, file_name), "
            "categories (id, name) and annotations (image_id, category_id, bbox)"
        ) from error
    boxes = [boxes_by_class(objects[photo]) for photo in listed]
    order = {str(category): place for place, category in enumerate(sorted(categories))}
    stem = file.stem.removeprefix("instances_")
    where = [f"{stem}/", f"images/{stem}/", f"{name}/", f"images/{name}/", "images/", ""]
    if file.name.startswith("_annotations"):
        where = [f"{file.parent.relative_to(root).as_posix()}/", *where]
    prefix = find_prefix(root, names, where)
    return Dataset(
        root,
        name,
        tuple(prefix + photo for photo in names),
        np.array([order[next(iter(each))] for each in boxes], dtype=np.int64),
        len(categories),
        tuple(categories[category] for category in sorted(categories)),
        sizes=np.array(sizes, dtype=np.int64) if sizes and all(map(all, sizes)) else None,
        boxes=Boxes.of(next(iter(each.values())) for each in boxes),
        label_sets=LabelSets.of(
            ([order[category] for category in each] for each in boxes),
            Boxes.of(some for each in boxes for some in each.values()),
        ),
    )


def _files(root: Path) -> dict[str, Path]:
    """Return the file of each split."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for file in sorted((root / "annotations").glob("*.json")):
        match = _SPLIT_FILE.fullmatch(file.name)
        if match and match[1] in _SPLITS:
            found.setdefault(match[1], []).append((match[2] or "", file))
    for folder, name in (("train", "train"), ("valid", "val"), ("val", "val"), ("test", "test")):
        file = root / folder / "_annotations.coco.json"
        if file.is_file():
            found.setdefault(name, []).append(("", file))
    named: dict[str, Path] = {}
    for split in (name for name in _SPLITS if name in found):
        for year, file in found[split]:
            named[split if len(found[split]) == 1 else f"{split}{year}"] = file
    return named


def _whole(root: Path) -> Path | None:
    for name in _WHOLE:
        if (root / name).is_file():
            with (root / name).open("rb") as stream:
                if re.match(rb'\s*\{\s*"(info|images|annotations|categories|licenses)"', stream.read(200)):
                    return root / name
    return None


def _load(file: Path) -> Any:
    def drop(item: dict[str, Any]) -> dict[str, Any]:
        item.pop("segmentation", None)
        return item

    try:
        return json.loads(file.read_bytes(), object_hook=drop)
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {error.lineno}: expected JSON, {error.msg} at column {error.colno}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} can not be read: {error}; restore the file") from error


def _objects(
    file: Path, annotations: Any, categories: dict[int, str], photos: dict[int, Any]
) -> dict[int, list[tuple[str, Corners]]]:
    """Return (category id, box XYXY) of each photo's objects. The files' boxes are x, y, width, height."""
    objects: dict[int, list[tuple[str, Corners]]] = {}
    for place, item in enumerate(annotations):
        photo, category, box = item["image_id"], item["category_id"], item["bbox"]
        if item.get("iscrowd"):
            continue
        good = photo in photos and category in categories and len(box) == 4
        if not good or not all(0 <= float(edge) < float("inf") for edge in box):
            raise DataError(
                f"{file}, annotation {place + 1} (id {item.get('id')}): expected an image_id and category_id that the "
                f"file lists, and bbox [x, y, width, height] not negative; got {photo}, {category}, {box}; mend it"
            )
        x, y, width, height = map(float, box)
        objects.setdefault(photo, []).append((str(category), (x, y, x + width, y + height)))
    return objects
