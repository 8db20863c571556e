"""A dataset's classes and a model's: which is which."""

import numpy as np
from numpy.typing import NDArray

from dualcam.datasets import Dataset
from dualcam.errors import DataError
from dualcam.model import DualBranch


def match_classes(model: DualBranch, dataset: Dataset) -> tuple[NDArray[np.int64], str | None]:
    """Return the model's class index for each class of the dataset, and what a user should look at, if anything.

    Classes match by name where each name of the data is that of exactly one class of the model, else by index where
    both have as many, or the data has no names. Raises `DataError`.
    """
    ours, theirs = model.class_names, dataset.class_names
    by_index = np.arange(dataset.classes)
    if theirs is None and dataset.classes <= model.classes:
        return by_index, None
    places: dict[str, list[int]] = {}
    for index, name in enumerate(ours or ()):
        places.setdefault(name.lower(), []).append(index)
    unknown = [name for name in theirs or () if len(places.get(name.lower(), ())) != 1]
    if theirs is not None and (not unknown or theirs == ours):
        return by_index if theirs == ours else np.array([places[name.lower()][0] for name in theirs]), None
    if dataset.classes == model.classes:
        told = "classes are matched by their order"
        return by_index, told if not (
            ours and theirs
        ) else f"{told}: {theirs[0]} = {ours[0]}, {theirs[-1]} = {ours[-1]}"
    what = (
        f"{len(unknown)} of them are no class of the model, or several: {', '.join(unknown[:3])}; " if unknown else ""
    )
    raise DataError(
        f"{dataset.root} has {dataset.classes} classes, the model {model.classes}; {what}train one for them: dualcam "
        "train DATA --fit-head linear -o DIR; or let the model choose (--classes top1 of annotate); or, if these "
        f"folders are no classes, name the photos by a glob: '{dataset.root}/**/*.jpg'"
    )
