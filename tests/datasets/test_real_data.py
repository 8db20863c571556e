"""Real photos, where they are there."""

from pathlib import Path

from dualcam.data.check import Check
from dualcam.datasets import evaluation_split, open_dataset, selection_split, splits


def test_butterflies(data_folder: Path) -> None:
    root = data_folder / "butterflies"
    assert splits(root) == ["train", "test"]
    train, test = open_dataset(root), open_dataset(root, "test")
    assert (len(train), len(test), test.classes) == (627, 205, 10)
    assert train.class_names == test.class_names and test.class_names is not None and "Monarch" in test.class_names
    assert test.boxes is not None and len(test.boxes.corners) == 205
    assert (evaluation_split(root), selection_split(root)) == ("test", None)
    assert list(Check(root).problems()) == []


def test_imagenet_val_subset(data_folder: Path) -> None:
    root = data_folder / "imagenet-val-subset"
    dataset = open_dataset(root, "val")
    assert dataset.boxes is not None and dataset.sizes is not None
    assert (len(dataset), len(dataset.boxes.corners)) == (650, 1004)
    assert set(dataset.sizes.ravel().tolist()) == {227}
    assert int((dataset.boxes.starts[1:] - dataset.boxes.starts[:-1] == 1).sum()) == 525
    assert (evaluation_split(root), selection_split(root)) == ("val", None)
    found = list(Check(root).problems())
    assert {problem.kind for problem in found} == {"class without photos"} and all(item.note for item in found)
