"""Check a dataset before hours are spent on it: what is missing, mislabelled, out of bounds, duplicated, unreadable."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dualcam import datasets
from dualcam.data.check_photo import Look, box_findings, glance, look
from dualcam.data.photos import MAX_MEGAPIXELS
from dualcam.datasets import Dataset
from dualcam.errors import ChoiceError, DataError

if TYPE_CHECKING:
    from rich.progress import Progress

_CHUNK = 256
_SPLIT_FOLDERS = frozenset({"train", "val", "valid", "validation", "test", "cars_train", "cars_test"})
_OVERLAPPING = ("trainval",)  # VOC's union of two splits


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or that is only worth knowing (``note``); ``photo`` is "" where it is of a split."""

    kind: str
    split: str
    photo: str
    detail: str
    note: bool = False


@dataclass(frozen=True)
class _Split:
    """What is kept of a split that has been read: paths, digests of ids and of contents (uint64, 0: not read)."""

    name: str
    paths: tuple[str, ...]
    ids: NDArray[np.int64]
    contents: NDArray[np.uint64]
    classes: tuple[str, ...] | None
    present: NDArray[np.int64]

    @property
    def home(self) -> str:
        """The dataset of a split's name, "" where it has none."""
        return self.name.rpartition("/")[0]

    @property
    def last(self) -> str:
        """The split's name without its dataset."""
        return self.name.rpartition("/")[2]


class Check:
    """A check of the dataset in ``path``; ``photos`` counts those of each split as they are reached.

    Photos are read whole, ``workers`` at a time, unless ``open_photos`` is False; what stays of one is 16 bytes of
    digests beside its path.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        open_photos: bool = True,
        workers: int = 2,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        if workers < 1:
            raise ChoiceError(f"workers must be at least 1; got {workers}")
        self.root, self.layout = datasets.find_layout(path)
        self.open_photos, self.workers, self.max_megapixels = open_photos, workers, max_megapixels
        self.photos: dict[str, int] = {}

    def problems(self, progress: "Progress | None" = None) -> Iterator[Problem]:
        """Yield what is found, split by split, then between splits."""
        splits: list[_Split] = []
        names: list[str | None] = [None]
        try:
            names = [*datasets.splits(self.root)] or names
        except DataError as error:
            yield Problem("malformed", "all", "", str(error))
            return
        for name in names:
            try:
                dataset = datasets.open_dataset(self.root, name)
            except DataError as error:
                yield Problem("malformed", name or "all", "", str(error))
                continue
            self.photos[dataset.split] = len(dataset)
            for kind, photo, detail in getattr(self.layout, "disagreements", _none)(self.root, dataset.split):
                yield Problem(kind, dataset.split, photo, detail)
            yield from _check_records(dataset)
            contents = np.zeros(len(dataset), dtype=np.uint64)
            yield from self._check_photos(dataset, contents, progress)
            splits.append(_summary(dataset, contents))
        for home in dict.fromkeys(split.home for split in splits):
            group = [split for split in splits if split.home == home and split.last not in _OVERLAPPING]
            yield from _check_classes(group)
            yield from _check_ids(group)
            yield from _check_contents(group)

    def _check_photos(
        self, dataset: Dataset, contents: NDArray[np.uint64], progress: "Progress | None"
    ) -> Iterator[Problem]:
        advance: Callable[[int], None] = lambda _: None  # noqa: E731
        if progress is not None:
            advance = partial(progress.advance, progress.add_task(f"check {dataset.split}", total=len(dataset)))

        def examine(position: int) -> Look:
            return look(dataset, position, self.max_megapixels) if self.open_photos else glance(dataset, position)

        with ThreadPoolExecutor(self.workers, thread_name_prefix="check") as pool:
            for start in range(0, len(dataset), _CHUNK):
                chunk = range(start, min(start + _CHUNK, len(dataset)))
                for position, seen in zip(chunk, pool.map(examine, chunk), strict=True):
                    contents[position] = seen.digest
                    for one in seen.findings:
                        yield Problem(one.kind, dataset.split, dataset.paths[position], one.detail, one.note)
                advance(len(chunk))


def _none(_root: Path, _split: str) -> Iterator[tuple[str, str, str]]:
    """Stand in for layouts whose files can not disagree."""
    return iter(())


def _summary(dataset: Dataset, contents: NDArray[np.uint64]) -> _Split:
    ids = np.fromiter((hash(_identity(path)) for path in dataset.paths), dtype=np.int64, count=len(dataset))
    return _Split(dataset.split, dataset.paths, ids, contents, dataset.class_names, np.unique(dataset.labels))


def _identity(path: str) -> str:
    """Return a path without the folders that tell its split: what the files of a split call the photo."""
    parts = PurePosixPath(path).parts
    return "/".join(part for part in parts[:-1] if part not in _SPLIT_FOLDERS) + "/" + parts[-1]


def _check_records(dataset: Dataset) -> Iterator[Problem]:
    """Yield what the annotations alone tell of a split."""
    split = dataset.split
    paths = np.fromiter(map(hash, dataset.paths), dtype=np.int64, count=len(dataset))
    first = np.unique(paths, return_index=True)[1]
    for position in np.setdiff1d(np.arange(len(dataset)), first):
        yield Problem("repeated id", split, dataset.paths[position], "listed before in this split")
    training = split.rpartition("/")[2] in (*datasets.TRAIN_SPLITS, "all")
    names = dataset.class_names
    for position in np.flatnonzero((dataset.labels < 0) | (dataset.labels >= dataset.classes)):
        detail = f"class {dataset.labels[position]} of {dataset.classes}"
        yield Problem("label outside classes", split, dataset.paths[position], detail)
    for label in np.setdiff1d(np.arange(dataset.classes), dataset.labels):
        detail = f"class {label}" + (f" ({names[label]})" if names else "")
        yield Problem("class without photos", split, "", detail, note=not training)
    if dataset.boxes is None and dataset.masks is None:
        return
    for position, path in enumerate(dataset.paths):
        boxes = None if dataset.boxes is None else dataset.boxes[position]
        if boxes is not None and len(boxes) and dataset.sizes is not None:
            width, height = dataset.sizes[position].tolist()
            for one in box_findings(boxes, (width, height)):
                yield Problem(one.kind, split, path, one.detail)
        if (boxes is None or not len(boxes)) and (dataset.masks is None or not dataset.masks.instances[position]):
            yield Problem("no ground truth", split, path, "neither box nor mask", note=training)


def _check_classes(group: Sequence[_Split]) -> Iterator[Problem]:
    """Yield classes of other splits that the train split does not have."""
    train = next((split for split in group if split.last in datasets.TRAIN_SPLITS), None)
    for split in group:
        if train is None or split is train:
            continue
        if split.classes != train.classes:
            ours, theirs = set(train.classes or ()), set(split.classes or ())
            words = ", ".join(sorted(ours ^ theirs)[:5]) or "the order"
            yield Problem("classes differ", split.name, "", f"from those of {train.name}: {words}")
        else:
            for label in np.setdiff1d(split.present, train.present):
                detail = f"class {label} has no photos in {train.name}"
                yield Problem("label outside classes", split.name, "", detail)


def _check_ids(group: Sequence[_Split]) -> Iterator[Problem]:
    for place, split in enumerate(group):
        for other in group[:place]:
            paths = set(other.paths)
            for position in np.flatnonzero(np.isin(split.ids, other.ids)):
                path = split.paths[position]
                if path in paths:
                    yield Problem("photo in several splits", split.name, path, f"also in {other.name}")
                else:
                    detail = f"{other.name} has another photo of this name"
                    yield Problem("id in several splits", split.name, path, detail, note=True)


def _check_contents(group: Sequence[_Split]) -> Iterator[Problem]:
    """Yield photos whose bytes are those of another one: within a split, and between splits."""
    if not group:
        return
    contents = np.concatenate([split.contents for split in group])
    starts = np.cumsum([0, *(len(split.paths) for split in group)])
    order = np.argsort(contents, kind="stable")
    ordered = contents[order]
    again = np.flatnonzero((ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)) + 1
    for row in again:
        source = order[np.searchsorted(ordered, ordered[row])]
        (one, path), (before, original) = (_locate(group, starts, place) for place in (order[row], source))
        if path == original:
            continue  # the same file: a repeated id, or a photo in several splits
        kind = "duplicate" if one is before else "content in several splits"
        yield Problem(kind, one.name, path, f"the same bytes as {original} of {before.name}")


def _locate(group: Sequence[_Split], starts: NDArray[np.int64], position: int) -> tuple[_Split, str]:
    place = int(np.searchsorted(starts, position, side="right")) - 1
    return group[place], group[place].paths[position - int(starts[place])]
