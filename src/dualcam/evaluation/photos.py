"""Which photos choose, and which are reported."""

import os
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualcam import datasets
from dualcam.classes import match_classes
from dualcam.data.multi_label import by_label
from dualcam.data.stream import find_photos
from dualcam.datasets import Dataset, find_layout, hold_out, open_dataset
from dualcam.errors import ChoiceError, DataError
from dualcam.model import DualBranch

HELD_OUT = 0.2


@dataclass(frozen=True)
class Photos:
    """Photos to run, the positions that choose thresholds (none: the maximum over the reported ones) and the rest.

    ``labels`` are the model's class indices, -1 where a photo's class is not known. ``told`` says in words how the
    choice is made.
    """

    parts: tuple[Dataset, ...]
    labels: NDArray[np.int64]
    choosing: NDArray[np.int64]
    reported: NDArray[np.int64]
    told: str

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def has_truth(self) -> bool:
        """Whether there are boxes or masks to compare maps with."""
        return any(part.boxes is not None or part.masks is not None for part in self.parts)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Which photo stands at each position, [N]: those of one photo, as once for each label, have one number."""
        seen: dict[tuple[str, str], int] = {}
        places = [(os.fspath(part.root), path) for part in self.parts for path in part.paths]
        return np.array([seen.setdefault(place, len(seen)) for place in places], dtype=np.int64)

    def locate(self, position: int) -> tuple[Dataset, int]:
        """Return the dataset of a position, and the photo's place in it."""
        for part in self.parts:
            if position < len(part):
                return part, position
            position -= len(part)
        raise IndexError(position)


def choose_photos(
    model: DualBranch,
    data: str | PathLike[str],
    *,
    split: str | None = None,
    select: str = "auto",
    seed: int = 0,
    multi_label: bool = False,
    truth_needed: bool = True,
) -> Photos:
    """Return the photos of ``data`` to report on (its test split, else val), and those that choose thresholds.

    ``select``: a split's name; "even": the even positions of the sorted ids choose, the odd ones are reported; "hold":
    a fifth of each class of the train split, by ``seed``; "none": the maximum over the reported photos themselves;
    "auto": the first of these that the data offers. With ``multi_label`` each (photo, label) pair is an entry of its
    own, judged by that label's boxes and masks. Raises `DataError` where there is no ground truth, or the classes
    are not the model's; unless ``truth_needed`` is off: then photos without truth are all reported, none choose, and
    labels are -1 where the classes are not the model's or ``data`` is a mere folder of photos.
    """

    def opened(name: str | None) -> Dataset:
        dataset = open_dataset(data, name)
        return by_label(dataset) if multi_label else dataset

    if not truth_needed and split is None and not _has_layout(data):
        return _untruthed(model, _mere_photos(data))
    report = opened(split or datasets.evaluation_split(data))
    if report.boxes is None and report.masks is None:
        if not truth_needed:
            return _untruthed(model, report)
        raise DataError(
            f"{report.root} (split {report.split!r}) has no boxes and no masks to compare with; see docs/datasets.md "
            "for the layouts that have, or ask for --fidelity, which needs none"
        )
    if select == "auto":
        select = _best_selection(data, report)
    if select == "even":
        order = np.unique(np.array(report.paths), return_inverse=True)[1]  # a photo's labels stay together
        told = f"thresholds chosen on the even positions of the sorted ids of {report.split!r}, odd ones reported"
        return Photos(
            (report,), match_labels(model, report), np.flatnonzero(order % 2 == 0), np.flatnonzero(order % 2), told
        )
    if select == "none":
        everything = np.arange(len(report))
        told = f"thresholds are the best on the reported photos themselves (maximum over {report.split!r})"
        return Photos((report,), match_labels(model, report), everything, everything, told)
    if select == "hold":
        chosen = hold_out(opened(_train_beside(data, report.split)), HELD_OUT, seed)[1]
        told = f"thresholds chosen on {HELD_OUT:.0%} of each class of the train split (seed {seed})"
    else:
        chosen = opened(select)
        told = f"thresholds chosen on split {chosen.split!r}"
    if (chosen.boxes is None) != (report.boxes is None) or (chosen.masks is None) != (report.masks is None):
        raise ChoiceError(
            f"split {chosen.split!r} has other ground truth than {report.split!r}; choose another --select"
        )
    labels = np.concatenate((match_labels(model, chosen), match_labels(model, report)))
    first = np.arange(len(chosen))
    return Photos((chosen, report), labels, first, len(chosen) + np.arange(len(report)), told)


def _has_layout(data: str | PathLike[str]) -> bool:
    try:
        find_layout(data)
    except DataError:
        return False
    return True


def _mere_photos(data: str | PathLike[str]) -> Dataset:
    root = Path(data).expanduser()
    paths = tuple(os.path.relpath(photo, root) for photo in find_photos([str(root)])) if root.is_dir() else ()
    if not paths:
        raise DataError(f"{root} is no folder of photos")
    return Dataset(root, "all", paths, np.full(len(paths), -1), 0, None)


def _untruthed(model: DualBranch, report: Dataset) -> Photos:
    labels, told = report.labels, f"{report.split!r}: no boxes or masks, so no localization"
    if len(labels) and labels.min() >= 0:
        try:
            labels = match_labels(model, report)
        except DataError:
            labels = np.full(len(report), -1)
            told += "; the classes are not the model's, so Top-1 is not known"
    return Photos((report,), labels, np.zeros(0, np.int64), np.arange(len(report)), told)


def _best_selection(data: str | PathLike[str], report: Dataset) -> str:
    named: str | None = datasets.selection_split(data, report.split)
    if named is not None and named != report.split:
        return named
    train_split = _train_beside(data, report.split)
    if train_split in datasets.splits(data) and report.split != train_split:
        train = open_dataset(data, train_split)
        if (train.boxes is None) == (report.boxes is None) and (train.masks is None) == (report.masks is None):
            return "hold"
    return "even"


def _train_beside(data: str | PathLike[str], split: str) -> str:
    """Return the name of the train split of the dataset that ``split`` belongs to, whether or not there is one."""
    found = [name for name in datasets.splits_beside(data, split) if name.rpartition("/")[2] == "train"]
    return found[0] if found else "train"


def match_labels(model: DualBranch, dataset: Dataset) -> NDArray[np.int64]:
    """Return the dataset's labels [N] as the model's class indices; see `match_classes`."""
    index, _ = match_classes(model, dataset)
    return np.asarray(index[dataset.labels], dtype=np.int64)


def without_truth(photos: Photos) -> Photos:
    """Leave photos that have neither boxes nor masks out of those that choose and those reported."""
    has = np.zeros(len(photos), dtype=bool)
    for position in range(len(photos)):
        part, place = photos.locate(position)
        boxes = part.boxes is not None and len(part.boxes[place]) > 0
        has[position] = boxes or (part.masks is not None and len(part.masks.instances[place]) > 0)
    return replace(
        photos, choosing=photos.choosing[has[photos.choosing]], reported=photos.reported[has[photos.reported]]
    )
