"""Datasets as they lie on disk."""

from pathlib import Path

import numpy as np
import pytest

from dualcam.datasets import hold_out, open_dataset, splits
from dualcam.errors import DataError
from dualcam.training.inputs import find_inputs
from dualcam.training.settings import TrainingSettings
from tests.generators import wsol
from tests.photos_on_disk import write_folder, write_photo


def test_image_folder(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 3, "dog": 2})
    (tmp_path / "dog" / "notes.txt").write_text("no photo")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1]
    assert all((tmp_path / path).is_file() for path in dataset.paths)


def test_image_folder_with_splits(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"cat": 2, "dog": 2})
    write_folder(tmp_path / "val", {"cat": 1, "dog": 1})
    assert splits(tmp_path) == ["train", "val"]
    assert len(open_dataset(tmp_path)) == 4
    assert len(open_dataset(tmp_path, "val")) == 2
    with pytest.raises(DataError, match="no split 'test'"):
        open_dataset(tmp_path, "test")


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_wsol(tmp_path: Path, ending: str) -> None:
    write_photo(tmp_path / "val" / "a,b.png", 0)
    folder = tmp_path / "metadata" / "CUB" / "train"
    folder.mkdir(parents=True)
    line_end = ending or "\n"
    (folder / "class_labels.txt").write_bytes(f"val/a,b.png,4{line_end}val/c.png,1{ending}".encode())
    dataset = open_dataset(tmp_path)
    assert dataset.paths == ("val/a,b.png", "val/c.png")
    assert dataset.labels.tolist() == [4, 1]
    assert dataset.classes == 5


def test_wsol_names_the_malformed_line(tmp_path: Path) -> None:
    folder = tmp_path / "metadata" / "train"
    folder.mkdir(parents=True)
    (folder / "class_labels.txt").write_text("a.png,1\na.png;2\n")
    with pytest.raises(DataError, match=r"class_labels.txt, line 2: expected '<photo>,<class index>', got 'a.png;2'"):
        open_dataset(tmp_path)


def test_wsol_without_a_train_split_lists_what_there_is(tmp_path: Path) -> None:
    folder = tmp_path / "metadata" / "val"
    folder.mkdir(parents=True)
    (folder / "class_labels.txt").write_text("a.png,1\n")
    with pytest.raises(DataError, match=r"no train split; it has val \(choose with split="):
        open_dataset(tmp_path)


def test_unknown_layouts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(DataError, match="no layout"):
        open_dataset(tmp_path)


def test_hold_out_is_disjoint_stratified_and_repeatable(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 10, "dog": 5, "emu": 1})
    dataset = open_dataset(tmp_path)
    rest, held = hold_out(dataset, 0.2, seed=3)
    assert sorted(rest.paths + held.paths) == sorted(dataset.paths)
    assert np.bincount(held.labels, minlength=3).tolist() == [2, 1, 0]
    assert hold_out(dataset, 0.2, seed=3)[1].paths == held.paths
    assert hold_out(dataset, 0.2, seed=4)[1].paths != held.paths


def test_validation_photos_are_of_the_same_dataset(tmp_path: Path) -> None:
    wsol.write(tmp_path, "CARS", prefix="CARS/")
    wsol.write(tmp_path, "ILSVRC", splits=("train", "val"))
    settings = TrainingSettings()
    cars = find_inputs(tmp_path, "CARS/train", settings)
    assert cars.val is not None and cars.val.split == "CARS/train", "held out of its own photos"
    photos = find_inputs(tmp_path, "ILSVRC/train", settings)
    assert photos.val is not None and photos.val.split == "ILSVRC/val"
