"""Which photos choose thresholds and which are reported, where a photo has several labels."""

from pathlib import Path

import numpy as np
import torch

import dualcam
from dualcam.evaluation.photos import choose_photos
from tests.generators import wsol
from tests.models import PREPROCESSING, tiny
from tests.scripts.test_multi_label_cli import COLORS, write_coco


def test_a_photos_labels_choose_or_are_reported_together(tmp_path: Path) -> None:
    objects = write_coco(tmp_path, "val", 9, seed=3)
    names = [*COLORS, "other", "another"]
    model = dualcam.wrap(tiny("pooled-linear", dtype=torch.float32), preprocessing=PREPROCESSING, class_names=names)
    photos = choose_photos(model, tmp_path, select="even", multi_label=True)
    paths = [photos.parts[0].paths[place] for place in range(len(photos))]
    assert len(paths) == sum(map(len, objects.values())) > len(objects)
    assert [paths.index(path) for path in paths] == [int(np.argmax(photos.numbers == n)) for n in photos.numbers]
    chosen, shown = ({paths[place] for place in part} for part in (photos.choosing, photos.reported))
    assert not chosen & shown
    assert sorted(chosen) == sorted(set(paths))[::2]
    assert sorted(shown) == sorted(set(paths))[1::2]
    single = choose_photos(model, tmp_path, select="even")
    assert len(np.unique(single.numbers)) == len(single) == 9
    order = np.argsort(np.array(single.parts[0].paths))
    assert single.choosing.tolist() == sorted(order[::2].tolist())
    assert single.reported.tolist() == sorted(order[1::2].tolist())


def test_each_of_several_datasets_in_a_folder_chooses_by_its_own_splits(tmp_path: Path) -> None:
    wsol.write(tmp_path, "CUB", prefix="CUB/", splits=("train", "val", "test"))
    wsol.write(tmp_path, "CARS", prefix="CARS/")
    model = dualcam.wrap(tiny("pooled-linear", dtype=torch.float32), preprocessing=PREPROCESSING)
    birds = choose_photos(model, tmp_path, split="CUB/test")
    assert [part.split for part in birds.parts] == ["CUB/val", "CUB/test"]
    cars = choose_photos(model, tmp_path, split="CARS/test")
    assert [part.split for part in cars.parts] == ["CARS/train", "CARS/test"]
    assert (len(cars.choosing), len(cars.reported)) == (2, 4), "no photo is lost to the choice of thresholds"
