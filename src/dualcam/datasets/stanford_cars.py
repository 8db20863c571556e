"""Stanford Cars as downloaded: ``devkit/*.mat``, ``cars_train/``, ``cars_test/`` (perhaps in ``stanford_cars/``).

Krause et al., "3D Object Representations for Fine-Grained Categorization" (2013), in the layout that torchvision
reads. The labels of test photos are in ``cars_test_annos_withlabels.mat``, beside ``devkit`` or in it.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dualcam.data.places import find_home, find_prefix
from dualcam.data.truth import Boxes
from dualcam.datasets import Dataset, choose_split
from dualcam.errors import DataError

PRIORITY = 20
_TRAIN = "devkit/cars_train_annos.mat"
_TEST = ("cars_test_annos_withlabels.mat", "devkit/cars_test_annos_withlabels.mat")
_FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")


def recognizes(root: Path) -> bool:
    """Whether the development kit is there."""
    return _home(root) is not None


def splits(root: Path) -> list[str]:
    """Return train, and test where its labels are there."""
    home = _home(root) or root
    return ["train", *(["test"] if any((home / name).is_file() for name in _TEST) else [])]


def read(root: Path, split: str | None) -> Dataset:
    """Read a split; class indices are those of the files, less 1. Raises `DataError` with file and record number."""
    name = choose_split(root, split, splits(root))
    home = _home(root) or root
    files = (_TRAIN,) if name == "train" else _TEST
    file = next(home / file for file in files if (home / file).is_file())
    class_names = tuple(str(item) for item in np.atleast_1d(_load(home / "devkit/cars_meta.mat", "class_names")))
    photos, labels, boxes = [], [], []
    for number, record in enumerate(np.atleast_1d(_load(file, "annotations")), start=1):
        try:
            *corners, label, photo = (np.asarray(record[field]).item() for field in _FIELDS)
            x0, y0, x1, y1 = map(float, corners)
            label = int(label)
        except (ValueError, TypeError, AttributeError, IndexError):
            raise _record_error(file, number, record) from None
        if not (1 <= label <= len(class_names) and 1 <= x0 <= x1 and 1 <= y0 <= y1):
            raise _record_error(file, number, record)
        photos.append(str(photo))
        labels.append(label - 1)
        boxes.append([[x0 - 1, y0 - 1, x1, y1]])  # pixels counted from 1, the last included
    beside = "" if home == root else f"{home.name}/"
    prefix = find_prefix(root, photos, [f"{beside}cars_{name}/", f"{beside}cars_{name}/cars_{name}/"])
    paths = tuple(prefix + photo for photo in photos)
    return Dataset(
        root, name, paths, np.array(labels, dtype=np.int64), len(class_names), class_names, boxes=Boxes.of(boxes)
    )


def _home(root: Path) -> Path | None:
    return find_home(root, ("stanford_cars",), _TRAIN)


def _load(file: Path, variable: str) -> Any:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError(f"{file.name} needs SciPy to be read; install dualcam[cars]") from error
    try:
        return loadmat(file, squeeze_me=True)[variable]
    except KeyError:
        raise DataError(f"{file} has no variable {variable!r}; restore the file as downloaded") from None
    except (OSError, ValueError, TypeError, NotImplementedError, IndexError) as error:
        raise DataError(f"{file} is no MATLAB file that can be read ({error}); restore it as downloaded") from error


def _record_error(file: Path, number: int, record: Any) -> DataError:
    return DataError(
        f"{file}, record {number}: expected {', '.join(_FIELDS)} with a class of cars_meta.mat and "
        f"1 <= x1 <= x2, 1 <= y1 <= y2, got {record}; restore the file as downloaded"
    )
