"""What is annotated: photos, and their labels and true boxes where they are a dataset's."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dualcam.annotation.agreement import TrueBoxes, Truth
from dualcam.annotation.settings import LABELS
from dualcam.classes import match_classes
from dualcam.data.multi_label import with_all_labels
from dualcam.data.stream import find_photos
from dualcam.datasets import Dataset, find_layout, open_dataset
from dualcam.errors import ChoiceError, DataError
from dualcam.model import DualBranch
from dualcam.targets import Classes, is_rule


@dataclass(frozen=True)
class Inputs:
    """Photos to annotate.

    ``classes`` are asked of each photo, or, where None, the class indices in ``labels`` (by path as in ``photos``).
    ``root`` is the dataset's folder; ``truth`` its boxes by absolute path. ``told`` says what was matched, if it
    needs to be said.
    """

    photos: tuple[str, ...]
    classes: Classes
    labels: dict[str, tuple[int, ...]] | None
    root: Path | None
    truth: Truth | None
    told: str | None


def open_inputs(given: Sequence[str], classes: Sequence[str], split: str | None, skip: Path) -> list[str] | Dataset:
    """Return the dataset that ``given`` names, or the photos it names.

    One folder with a layout of `dualcam.datasets` is a dataset. If no labels are asked for, a folder without true
    boxes and without ``split`` is searched for photos as any other. What a search finds below ``skip`` is left out.
    """
    if len(given) == 1 and Path(given[0]).expanduser().is_dir():
        by_labels = not classes or tuple(classes) == (LABELS,)
        try:
            find_layout(given[0])
        except DataError:
            if split is not None or (classes and by_labels):
                raise
            return find_photos(given, skip=skip)
        dataset = open_dataset(given[0], split)
        if by_labels or split is not None or dataset.boxes is not None:
            return dataset
    if split is not None:
        raise ChoiceError(f"--split {split} needs one dataset folder; got {' '.join(given)}")
    return find_photos(given, skip=skip)


def make_inputs(
    model: DualBranch, photos: Sequence[str] | Dataset, classes: Sequence[str], *, multi_label: bool = False
) -> Inputs:
    """Return what to annotate with which classes; raises `DataError` where labels are not the model's classes.

    ``multi_label``: all labels of a dataset's photo, and its boxes label by label; else its main one.
    """
    by_labels = tuple(classes) == (LABELS,)
    asked = list(classes) or ["top1"]
    chosen: Classes = asked[0] if len(asked) == 1 and is_rule(asked[0]) else list(asked)
    if not isinstance(photos, Dataset):
        if by_labels:
            raise ChoiceError(
                "--classes labels needs one dataset folder, whose photos have labels; choose --classes top1"
            )
        return Inputs(tuple(photos), chosen, None, None, None, None)
    if multi_label:
        photos = with_all_labels(photos)
    paths = tuple(str(photos.root / path) for path in photos.paths)
    truth = _truth(model, photos, paths, multi_label=multi_label)
    if classes and not by_labels:
        return Inputs(paths, chosen, None, photos.root, truth, None)
    matched, told = match_classes(model, photos)
    sets = photos.label_sets if multi_label else None
    labels = {
        path: tuple(matched[photos.labels[place] if sets is None else sets[place]].reshape(-1).tolist())
        for place, path in enumerate(paths)
    }
    return Inputs(paths, None, labels, photos.root, truth, told)


def _truth(model: DualBranch, photos: Dataset, paths: Sequence[str], *, multi_label: bool) -> Truth | None:
    """Return the true boxes; None where there are none, or where nobody says whose of several labels a box is."""
    places = list(map(os.path.abspath, paths))
    if not multi_label:
        return None if photos.boxes is None else TrueBoxes(photos.boxes, places)
    sets = photos.label_sets
    if sets is None or sets.boxes is None:
        return None
    matched, _ = match_classes(model, photos)
    keys = [places[photo] for photo in sets.photos.tolist()]
    return TrueBoxes(sets.boxes, keys, matched[sets.flat].tolist())
