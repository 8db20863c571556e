"""Pascal VOC's XML: ``JPEGImages/``, ``Annotations/*.xml``, ``ImageSets/Main/<split>.txt`` (perhaps in ``VOC2007/``).

Everingham et al., "The Pascal Visual Object Classes Challenge" (IJCV 2010). A photo's labels are the classes of its
objects, difficult ones included, the main one that with the largest total area of boxes. The pictures in
``SegmentationObject`` number objects of all classes in one file and are not read.
"""

import os
from pathlib import Path

import numpy as np

from dualcam.data.label_sets import LabelSets
from dualcam.data.lines import numbered_lines
from dualcam.data.photos import is_photo_name
from dualcam.data.truth import Boxes
from dualcam.data.voc_xml import Annotation, boxes_by_class, read_annotation
from dualcam.datasets import Dataset, choose_split
from dualcam.errors import DataError

PRIORITY = 30
_SPLITS = ("train", "val", "trainval", "test")


def recognizes(root: Path) -> bool:
    """Whether photos and annotations are there."""
    return bool(_homes(root))


def splits(root: Path) -> list[str]:
    """Return the splits, as ``<year's folder>/<split>`` where there are several years; none without lists."""
    homes = _homes(root)
    found = [(home, name) for home in homes for name in _SPLITS if _list(home, name).is_file()]
    return [name if len(homes) == 1 else f"{home.name}/{name}" for home, name in found]


def read(root: Path, split: str | None) -> Dataset:
    """Read a split; classes are in the order of their names. Raises `DataError` with file and line number.

    Classes are those with lists of their own (``ImageSets/Main/<class>_<split>.txt``), else of all annotations.
    Photos without any object are left out.
    """
    homes, present = _homes(root), splits(root)
    if present or split is not None:
        name = choose_split(root, split, present)
    elif len(homes) > 1:
        raise DataError(f"{root} has several years, {', '.join(home.name for home in homes)}; open one of them")
    else:
        name = "all"
    home = next(home for home in homes if len(homes) == 1 or name.startswith(f"{home.name}/"))
    files = {Path(entry.name).stem: entry.name for entry in os.scandir(home / "JPEGImages") if _is_photo(entry)}
    stems = _listed(home, name.rpartition("/")[2]) if present else _annotated(home)
    annotations = {stem: read_annotation(home / "Annotations" / f"{stem}.xml") for stem in stems}
    boxes = {stem: boxes_by_class(item.objects) for stem, item in annotations.items()}
    kept = [stem for stem in stems if boxes[stem]]
    classes = _classes(home, annotations)
    places = {label: place for place, label in enumerate(classes)}
    unknown = next(((stem, label) for stem in kept for label in boxes[stem] if label not in places), None)
    if unknown is not None:
        file = home / "Annotations" / f"{unknown[0]}.xml"
        raise DataError(f"{file} has class {unknown[1]}, which has no list in ImageSets/Main; mend one of them")
    sizes = [annotations[stem].size for stem in kept]
    prefix = "" if home == root else f"{home.relative_to(root).as_posix()}/"
    return Dataset(
        root,
        name,
        tuple(f"{prefix}JPEGImages/{files.get(stem, stem + '.jpg')}" for stem in kept),
        np.array([places[next(iter(boxes[stem]))] for stem in kept], dtype=np.int64),
        len(classes),
        tuple(classes),
        sizes=None if not sizes or None in sizes else np.array(sizes, dtype=np.int64),
        boxes=Boxes.of(next(iter(boxes[stem].values())) for stem in kept),
        label_sets=LabelSets.of(
            ([places[label] for label in boxes[stem]] for stem in kept),
            Boxes.of(some for stem in kept for some in boxes[stem].values()),
        ),
    )


def _homes(root: Path) -> list[Path]:
    homes = [root, *sorted(root.glob("VOC[0-9]*")), *sorted(root.glob("VOCdevkit/VOC[0-9]*"))]
    return [home for home in homes if (home / "JPEGImages").is_dir() and (home / "Annotations").is_dir()]


def _list(home: Path, name: str) -> Path:
    return home / "ImageSets" / "Main" / f"{name}.txt"


def _is_photo(entry: "os.DirEntry[str]") -> bool:
    return is_photo_name(Path(entry.name))


def _listed(home: Path, name: str) -> list[str]:
    """Return the stems that a split lists; each is one word, and has an annotation."""
    stems = []
    for number, text in numbered_lines(_list(home, name)):
        if not (home / "Annotations" / f"{text}.xml").is_file():
            raise DataError(
                f"{_list(home, name)}, line {number}: expected the name of a file in Annotations/ without .xml, got "
                f"{text!r}; restore the file or remove the line"
            )
        stems.append(text)
    return stems


def _annotated(home: Path) -> list[str]:
    return sorted(file.stem for file in (home / "Annotations").glob("*.xml"))


def _classes(home: Path, read_already: dict[str, Annotation]) -> list[str]:
    lists = (home / "ImageSets" / "Main").glob("*_*.txt")
    named = {name for name, _, split in (file.stem.rpartition("_") for file in lists) if split in _SPLITS}
    if named:
        return sorted(named)
    others = (stem for stem in _annotated(home) if stem not in read_already)
    everything = [*read_already.values(), *(read_annotation(home / "Annotations" / f"{stem}.xml") for stem in others)]
    return sorted({label for item in everything for label, _ in item.objects})
