"""WSOL metadata, ``metadata/[DATASET/]<split>/class_labels.txt``, beside the photos.

The format of Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right" (CVPR 2020), which has it
for CUB, ILSVRC and OpenImages, and which others use for Stanford Cars. Lines, no header: ``class_labels.txt``
id,class; ``image_sizes.txt`` id,width,height; ``localization.txt`` id,x0,y0,x1,y1 (source pixels, one line a box) or
id,mask,ignore (ignore on the id's first line only). Sizes and localization may be empty or absent.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualcam.data.lines import line_error, number_blocks, numbered_lines
from dualcam.data.photos import is_photo_name
from dualcam.data.places import find_prefix
from dualcam.data.truth import Boxes, Masks
from dualcam.datasets import Dataset, choose_split
from dualcam.errors import DataError

PRIORITY = 10
LABELS = "class_labels.txt"
IDS = "image_ids.txt"
_LABEL_LINE = "'<photo>,<class index>'"
_SIZE_LINE = "'<photo>,<width>,<height>' in whole pixels"
_BOX_LINE = "'<photo>,x0,y0,x1,y1' with 0 <= x0 <= x1 and 0 <= y0 <= y1"
_MASK_LINE = "'<photo>,<mask>,<ignore>', ignore on the photo's first line only"
_UNKNOWN = f"a photo that {LABELS} lists"

__all__ = ["PRIORITY", "disagreements", "numbered_lines", "read", "recognizes", "splits"]


def recognizes(root: Path) -> bool:
    """Whether ``metadata`` holds splits."""
    return bool(splits(root))


def splits(root: Path) -> list[str]:
    """Return the splits, named ``<split>`` or ``<DATASET>/<split>``."""
    metadata = root / "metadata"
    files = [*metadata.glob(f"*/{LABELS}"), *metadata.glob(f"*/*/{LABELS}")]
    return sorted(file.parent.relative_to(metadata).as_posix() for file in files)


def read(root: Path, split: str | None) -> Dataset:
    """Read the files of a split; raises `DataError` with file and line number.

    The photo of an id lies in ``root``, ``images/``, ``<DATASET>/`` or, for Stanford Cars, in ``cars_train/`` or
    ``cars_test/``. An id that ``class_labels.txt`` repeats has its size and boxes at each place.
    """
    name = choose_split(root, split, splits(root))
    home = root / "metadata" / name
    ids, labels = _read_labels(home / LABELS)
    index = _Index(ids)
    sizes = _read_sizes(home / "image_sizes.txt", index)
    localization = home / "localization.txt"
    boxes, masks = None, None
    kind = _kind(localization)
    if kind == "boxes":
        boxes = _read_boxes(localization, index)
    elif kind == "masks":
        masks = _read_masks(localization, index, root, name)
    if len(index.first) < len(ids):
        first = np.array([index.first[photo] for photo in ids], dtype=np.int64)
        sizes = None if sizes is None else sizes[first]
        boxes = None if boxes is None else boxes.subset(first)
        masks = None if masks is None else masks.subset(first)
    prefix = find_prefix(root, ids, _photo_folders(name))
    paths = tuple(prefix + photo for photo in ids) if prefix else tuple(ids)
    classes = int(labels.max()) + 1 if len(labels) else 0
    return Dataset(root, name, paths, labels, classes, None, sizes, boxes, masks)


def disagreements(root: Path, split: str) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, id, detail) where ``image_ids.txt``, if there is one, and ``class_labels.txt`` list other photos."""
    home = root / "metadata" / split
    if not (home / IDS).is_file():
        return
    listed = {photo for _, photo in numbered_lines(home / IDS)}
    labelled = set(_read_labels(home / LABELS)[0])
    for photo in sorted(listed - labelled):
        yield "photo without label", photo, f"in {IDS}, not in {LABELS}"
    for photo in sorted(labelled - listed):
        yield "photo not listed", photo, f"in {LABELS}, not in {IDS}"


class _Index:
    """Where the ids of ``class_labels.txt`` stand; of an id that is repeated, the first place."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids
        self.first = dict(zip(reversed(ids), range(len(ids) - 1, -1, -1), strict=True))

    def places(self, names: list[str], file: Path, row: int) -> NDArray[np.int64]:
        """Return the places [M] of ``names``, which stand in ``file`` from row ``row`` on."""
        if self.ids[row : row + len(names)] == names:  # the usual order: many times as fast as looking each up
            return np.arange(row, row + len(names))
        try:
            return np.array([self.first[name] for name in names], dtype=np.int64)
        except KeyError:
            unknown = next(place for place, name in enumerate(names) if name not in self.first)
            raise line_error(file, row + unknown, _UNKNOWN) from None


def _photo_folders(name: str) -> list[str]:
    dataset, _, split = name.rpartition("/")
    cars = "cars_train/" if split.startswith("train") else "cars_test/"
    folders = ["", cars, "images/"]
    if dataset:
        folders += [f"{dataset}/", f"{dataset}/{cars}", f"{dataset}/images/"]
    return folders


def _read_labels(file: Path) -> tuple[list[str], NDArray[np.int64]]:
    ids: list[str] = []
    labels = [np.zeros(0, dtype=np.int64)]
    for names, numbers in number_blocks(file, 1, _LABEL_LINE, _whole):
        ids += names
        labels.append(numbers[:, 0].astype(np.int64))
    return ids, np.concatenate(labels)


def _whole(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(((numbers >= 0) & (numbers == np.floor(numbers)) & (numbers < 2**31)).all(1))


def _upright(corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((corners >= 0).all(1) & (corners[:, 2:] >= corners[:, :2]).all(1))


def _read_sizes(file: Path, index: _Index) -> NDArray[np.int64] | None:
    if not file.is_file():
        return None
    sizes = np.zeros((len(index.ids), 2), dtype=np.int64)
    row = 0
    for names, numbers in number_blocks(file, 2, _SIZE_LINE, lambda rows: _whole(rows) & (rows > 0).all(1)):
        sizes[index.places(names, file, row)] = numbers.astype(np.int64)
        row += len(names)
    if not row:
        return None
    lacking = None
    if not sizes[:, 0].all():
        lacking = next((photo for photo in index.ids if not sizes[index.first[photo], 0]), None)
    if lacking is not None:
        raise DataError(f"{file} states no size of {lacking!r}; add its line, or remove the file to do without sizes")
    return sizes


def _kind(file: Path) -> str | None:
    """Return "boxes" or "masks" by the first line: a mask's line has the name of a picture after the photo's."""
    line = next((text for _, text in numbered_lines(file)), None) if file.is_file() else None
    if line is None:
        return None
    fields = line.rsplit(",", 2)
    return "masks" if len(fields) == 3 and is_photo_name(Path(fields[1])) else "boxes"


def _read_boxes(file: Path, index: _Index) -> Boxes:
    corners = [np.zeros((0, 4))]
    owners = [np.zeros(0, dtype=np.int64)]
    row = 0
    for names, numbers in number_blocks(file, 4, _BOX_LINE, _upright):
        owners.append(index.places(names, file, row))
        corners.append(numbers)
        row += len(names)
    owner = np.concatenate(owners)
    counts = np.bincount(owner, minlength=len(index.ids))
    everything = np.concatenate(corners)
    return Boxes(everything[np.argsort(owner, kind="stable")], np.concatenate(([0], np.cumsum(counts))))


def _read_masks(file: Path, index: _Index, root: Path, name: str) -> Masks:
    instances: list[list[str]] = [[] for _ in index.ids]
    ignored: list[tuple[str, ...]] = [()] * len(index.ids)
    for row, (_, text) in enumerate(numbered_lines(file)):
        fields = [field.strip() for field in text.rsplit(",", 2)]
        if len(fields) != 3 or not fields[0] or not fields[1]:
            raise line_error(file, row, _MASK_LINE)
        place = int(index.places([fields[0]], file, row)[0])
        if fields[2] and instances[place]:
            raise line_error(file, row, _MASK_LINE)
        instances[place].append(fields[1])
        if fields[2]:
            ignored[place] = (fields[2],)
    dataset = name.rpartition("/")[0] or "OpenImages"
    folders = ["", "masks/", f"{dataset}/", f"{dataset}/masks/", "OpenImages/"]
    prefix = find_prefix(root, [masks[0] for masks in instances if masks], folders)
    return Masks(
        tuple(tuple(prefix + mask for mask in masks) for masks in instances),
        tuple(tuple(prefix + mask for mask in masks) for masks in ignored),
    )
