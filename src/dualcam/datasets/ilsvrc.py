"""ImageNet (ILSVRC) as downloaded: ``Data/CLS-LOC/{train,val}``, ``Annotations/CLS-LOC`` (perhaps in ``ILSVRC/``).

Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge" (2015). A class is a WordNet id: the folder of
a train photo, the objects' name of a val photo. Indices are positions in the sorted ids. Boxes come from
``LOC_{train,val}_solution.csv`` where it is there (one file), else from the XML files: half a million for train.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np

from dualcam.data.lines import fields_of, line_error, numbered_lines
from dualcam.data.photos import is_photo_name
from dualcam.data.places import find_home
from dualcam.data.truth import Boxes
from dualcam.data.voc_xml import Annotation, Corners, read_annotation
from dualcam.datasets import Dataset, choose_split
from dualcam.errors import DataError

PRIORITY = 22
SPLITS = ("train", "val")
_MAPPING = "LOC_synset_mapping.txt"
_SOLUTION = "'<photo>,<wnid> <xmin> <ymin> <xmax> <ymax> ...' with 0 <= xmin <= xmax and 0 <= ymin <= ymax"


def recognizes(root: Path) -> bool:
    """Whether ``Data/CLS-LOC`` holds train or val."""
    return bool(splits(root))


def splits(root: Path) -> list[str]:
    """Return those of train and val that are there; the labels of test were never published."""
    home = _home(root)
    return [] if home is None else [name for name in SPLITS if (home / "Data/CLS-LOC" / name).is_dir()]


def read(root: Path, split: str | None) -> Dataset:
    """Read a split; raises `DataError` naming the file, and its line, that can not be used.

    Names are those of ``LOC_synset_mapping.txt`` where they tell all classes apart (all 1000: "crane" occurs twice),
    else the WordNet ids. Only with XML as the source of boxes, and a size in each, are sizes known.
    """
    name = choose_split(root, split, splits(root))
    home = _home(root) or root
    photos = _photos(home, name)
    classes = _classes(root, home)
    pairs = [(photo, photo.rpartition("/")[2].rpartition(".")[0]) for photo in photos]
    solution = find_home(root, (home.name,), f"LOC_{name}_solution.csv")
    if solution is not None:
        found = _read_solution(solution / f"LOC_{name}_solution.csv")
        annotations = [found.get(stem) for _, stem in pairs]
    else:
        folder = home / "Annotations/CLS-LOC" / name
        files = [folder / f"{photo.rpartition('.')[0] if name == 'train' else stem}.xml" for photo, stem in pairs]
        annotations = [read_annotation(file) if file.is_file() else None for file in files]
    places = {wnid: place for place, wnid in enumerate(classes)}
    labels = []
    for photo, annotation in zip(photos, annotations, strict=True):
        wnid = photo.partition("/")[0] if "/" in photo else _wnid(annotation)
        if wnid not in places:
            raise DataError(
                f"{home / 'Data/CLS-LOC' / name / photo} is of class {wnid}, which is not among the {len(classes)} "
                f"known; expected an annotation with a class of {_MAPPING} or a folder of train"
            )
        labels.append(places[wnid])
    boxes = Boxes.of([[] if item is None else [box for _, box in item.objects] for item in annotations])
    sizes = [None if item is None else item.size for item in annotations]
    names = tuple(classes.values())
    prefix = f"{(home / 'Data/CLS-LOC' / name).relative_to(root).as_posix()}/"
    return Dataset(
        root,
        name,
        tuple(prefix + photo for photo in photos),
        np.array(labels, dtype=np.int64),
        len(classes),
        names if len(set(names)) == len(names) else tuple(classes),
        sizes=None if not sizes or None in sizes else np.array(sizes, dtype=np.int64),
        boxes=boxes if len(boxes.corners) else None,
    )


def _home(root: Path) -> Path | None:
    return find_home(root, ("ILSVRC",), "Data/CLS-LOC")


def _photos(home: Path, split: str) -> list[str]:
    """Return the photos below the split's folder: as ``ImageSets`` lists them, else as they lie there, sorted."""
    listed = home / "ImageSets/CLS-LOC" / ("train_cls.txt" if split == "train" else "val.txt")
    if listed.is_file():
        return [f"{photo}.JPEG" for _, (photo, _) in fields_of(listed, 2, "'<photo> <number>'")]
    top = home / "Data/CLS-LOC" / split
    found = []
    for folder, _, files in os.walk(top):
        below = Path(folder).relative_to(top).as_posix()
        found += [name if below == "." else f"{below}/{name}" for name in files if is_photo_name(Path(name))]
    return sorted(found)


def _classes(root: Path, home: Path) -> dict[str, str]:
    """Return WordNet ids with their names, in the order of the ids."""
    for file in dict.fromkeys(folder / name for folder in (root, home) for name in (_MAPPING, f"devkit/{_MAPPING}")):
        if file.is_file():
            return dict(sorted(fields for _, fields in fields_of(file, 2, "'<wnid> <names>'")))
    train = home / "Data/CLS-LOC/train"
    if not train.is_dir():
        raise DataError(f"{home} has neither {_MAPPING} nor Data/CLS-LOC/train to tell the classes; restore one")
    return {name: name for name in sorted(entry.name for entry in os.scandir(train) if entry.is_dir())}


def _wnid(annotation: Annotation | None) -> str | None:
    names = Counter(name for name, _ in annotation.objects) if annotation else Counter()
    return names.most_common(1)[0][0] if names else None


def _read_solution(file: Path) -> dict[str, Annotation]:
    found = {}
    for row, (number, line) in enumerate(numbered_lines(file)):
        photo, comma, rest = line.partition(",")
        words = rest.split()
        if number == 1 and photo == "ImageId":
            continue
        if not comma or not words or len(words) % 5:
            raise line_error(file, row, _SOLUTION)
        groups = [words[start : start + 5] for start in range(0, len(words), 5)]
        try:
            objects = tuple((wnid, _half_open(corners)) for wnid, *corners in groups)
        except ValueError:
            raise line_error(file, row, _SOLUTION) from None
        found[photo] = Annotation(None, objects)
    return found


def _half_open(corners: list[str]) -> Corners:
    x0, y0, x1, y1 = map(float, corners)
    if not (0 <= x0 <= x1 < float("inf") and 0 <= y0 <= y1 < float("inf")):
        raise ValueError(corners)
    return max(x0 - 1, 0.0), max(y0 - 1, 0.0), x1, y1
