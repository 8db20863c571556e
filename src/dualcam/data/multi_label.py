"""Two ways to see a dataset whose photos have several labels: all labels of a photo, or one entry a label."""

from dataclasses import replace

import numpy as np

from dualcam.data.label_sets import LabelSets
from dualcam.data.truth import Boxes, Masks
from dualcam.datasets import Dataset
from dualcam.errors import DataError


def with_all_labels(dataset: Dataset) -> Dataset:
    """Return ``dataset`` with ``label_sets``, each photo once.

    They are the layout's where it tells of several labels; a photo that the layout lists again and again (WSOL's
    ``class_labels.txt``) has the labels of all its places; any other has its one.
    """
    if dataset.label_sets is not None:
        return dataset
    places: dict[str, list[int]] = {}
    for place, path in enumerate(dataset.paths):
        places.setdefault(path, []).append(place)
    sets = [list(dict.fromkeys(dataset.labels[found].tolist())) for found in places.values()]
    first = dataset.subset([found[0] for found in places.values()])
    told = all(len(labels) == 1 for labels in sets)  # whose the boxes of a photo with several labels are, nobody says
    truth: tuple[Boxes | None, Masks | None] = (first.boxes, first.masks) if told else (None, None)
    return replace(first, label_sets=LabelSets.of(sets, *truth))


def count_several(dataset: Dataset) -> int:
    """Return how many photos have more than one label."""
    sets = with_all_labels(dataset).label_sets
    assert sets is not None
    return int((sets.counts > 1).sum())


def by_label(dataset: Dataset) -> Dataset:
    """Return one entry a (photo, label) pair, with that label's boxes and masks: paths repeat, labels [P].

    Raises `DataError` where there is ground truth, but nobody says which label it belongs to.
    """
    full = with_all_labels(dataset)
    sets = full.label_sets
    assert sets is not None
    if (dataset.boxes is not None and sets.boxes is None) or (dataset.masks is not None and sets.masks is None):
        raise DataError(
            f"{dataset.root} (split {dataset.split!r}) has photos of several labels, and boxes or masks that do not "
            "tell whose they are; write them as boxes.csv with a column class or name (docs/datasets.md)"
        )
    photos = sets.photos
    return replace(
        full,
        paths=tuple(full.paths[photo] for photo in photos.tolist()),
        labels=sets.flat,
        sizes=None if full.sizes is None else full.sizes[photos],
        boxes=sets.boxes,
        masks=sets.masks,
        label_sets=None,
    )


def check_single(dataset: Dataset) -> str | None:
    """Return what to tell where one label of each photo is to count: how many have more, and which one counts.

    Raises `DataError` where nothing says which.
    """
    several = count_several(dataset)
    if not several:
        return None
    what = f"{several} of {len(dataset)} photos of {dataset.root} (split {dataset.split!r}) have several labels"
    sets = dataset.label_sets
    if sets is None or (sets.boxes is None and sets.masks is None):
        raise DataError(f"{what}; train for all of them with --multi-label (multi_label=True)")
    return f"{what}; the one with the largest area counts (--multi-label: all of them do)"


def label_counts(sets: LabelSets, classes: int) -> np.typing.NDArray[np.int64]:
    """Return how many photos have each label, [C]."""
    return np.asarray(np.bincount(sets.flat, minlength=classes), dtype=np.int64)
