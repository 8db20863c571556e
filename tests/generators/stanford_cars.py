"""Stanford Cars as downloaded, tiny; file names repeat between train and test."""

from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.generators.pictures import HEIGHT, WIDTH, photo

NAMES = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012")
FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")


def write(
    root: Path, *, nested: bool = False, labelled: bool = True, home: str = "stanford_cars", label: int | None = None
) -> None:
    """Write three photos a split; ``nested`` as Kaggle has it (cars_train/cars_train), ``labelled`` test photos."""
    top = root / home
    (top / "devkit").mkdir(parents=True)
    savemat(top / "devkit/cars_meta.mat", {"class_names": np.array([NAMES], dtype=object)})
    for split in ("train", "test"):
        folder = top / f"cars_{split}" / (f"cars_{split}" if nested else "")
        records = np.zeros((1, 3), dtype=[(field, object) for field in FIELDS])
        for number in range(3):
            name = f"0000{number + 1}.jpg"
            photo(folder / name)
            one = label if label is not None else 1 + number % 2
            records[0, number] = (5, 1, WIDTH, HEIGHT, np.uint8(one), name)
        if split == "train" or not labelled:
            savemat(top / f"devkit/cars_{split}_annos.mat", {"annotations": records})
        else:
            savemat(top / "cars_test_annos_withlabels.mat", {"annotations": records})
