"""Match a dataset's classes with the classifier's."""

import re

import numpy as np
from numpy.typing import NDArray

from dualcam.datasets import Dataset
from dualcam.errors import DataError
from dualcam.model import DualBranch

_WAY_OUT = "fit a head for the data's own classes (fit_head='linear', --fit-head linear)"


def match_classes(dataset: Dataset, model: DualBranch) -> NDArray[np.int64]:
    """Return the model's class index of each of the dataset's classes.

    Folder names match class names (case, separators and a leading number do not matter), or WordNet ids where the
    model has ImageNet's 1000 classes, or class indices. Without names the numbers of classes must agree.
    Raises `DataError`, which says what does not match and offers ``fit_head``.
    """
    if dataset.class_names is None:
        if dataset.classes > model.classes:
            raise DataError(
                f"{dataset.root} has labels up to {dataset.classes - 1}, the classifier has {model.classes} classes; "
                f"take a classifier of these classes, or {_WAY_OUT}"
            )
        return np.arange(dataset.classes)
    known = _names_to_indices(model)
    found = [known.get(_plain(name)) for name in dataset.class_names]
    missing = [name for name, index in zip(dataset.class_names, found, strict=True) if index is None]
    if not missing:
        indices = [index for index in found if index is not None]
        if len(set(indices)) == len(indices):
            return np.asarray(indices, dtype=np.int64)
        raise DataError(f"two folders of {dataset.root} name the same class of the classifier; merge or rename them")
    if model.class_names is None and len(dataset.class_names) == model.classes:
        return np.arange(model.classes)
    raise DataError(
        f"the classifier's classes do not match the folders of {dataset.root}: {len(missing)} of "
        f"{len(dataset.class_names)} are not among its {model.classes} classes (such as {', '.join(missing[:3])}); "
        f"rename the folders, or {_WAY_OUT}"
    )


def _names_to_indices(model: DualBranch) -> dict[str, int]:
    known: dict[str, int] = {}
    if model.classes == 1000:
        from timm.data import ImageNetInfo

        known.update({wnid: index for index, wnid in enumerate(ImageNetInfo().label_names())})
    known.update({str(index): index for index in range(model.classes)})
    for index, name in enumerate(model.class_names or ()):
        known[_plain(name)] = index
    return known


def _plain(name: str) -> str:
    """Return a name in lower case, separators as spaces, without a leading number before a word."""
    text = re.sub(r"[\s_\-.]+", " ", name).strip().lower()
    return re.sub(r"^\d+ (?=\D)", "", text)
