"""What holds for every layout, found by listing the folder."""

from pathlib import Path
from typing import Any

import pytest

from dualcam.data.check import Check
from dualcam.data.multi_label import by_label, with_all_labels
from dualcam.datasets import Dataset, evaluation_split, find_layout, layouts, open_dataset, selection_split, splits
from dualcam.errors import DataError
from tests.generators import (
    boxes_csv,
    coco,
    cub,
    ilsvrc,
    image_folder,
    labels_csv,
    mask_folder,
    openimages,
    stanford_cars,
    voc,
    wsol,
)

GENERATORS = {
    "boxes_csv": boxes_csv,
    "coco": coco,
    "cub": cub,
    "ilsvrc": ilsvrc,
    "image_folder": image_folder,
    "labels_csv": labels_csv,
    "mask_folder": mask_folder,
    "openimages": openimages,
    "stanford_cars": stanford_cars,
    "voc": voc,
    "wsol": wsol,
}
REPORTED = {
    "boxes_csv": ("test", None),
    "coco": ("val", None),
    "cub": ("test", None),
    "ilsvrc": ("val", None),
    "image_folder": ("val", None),
    "labels_csv": ("test", None),
    "mask_folder": (None, None),
    "openimages": ("test", "val"),
    "stanford_cars": ("test", None),
    "voc": ("val", None),
    "wsol": ("CUB/test", None),
}


def name_of(layout: Any) -> str:
    return str(layout.__name__.rpartition(".")[2])


LAYOUTS = [name_of(layout) for layout in layouts()]


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_recognized_and_whole(tmp_path: Path, name: str) -> None:
    GENERATORS[name].write(tmp_path)
    assert name_of(find_layout(tmp_path)[1]) == name
    names: list[str | None] = [*splits(tmp_path)]
    for split in names or [None]:
        dataset = open_dataset(tmp_path, split)
        count = len(dataset)
        assert count == len(dataset.labels) == len(dataset.paths) > 0
        assert dataset.labels.min() >= 0 and dataset.labels.max() < dataset.classes
        assert dataset.class_names is None or len(dataset.class_names) == dataset.classes
        assert dataset.sizes is None or dataset.sizes.shape == (count, 2)
        assert dataset.boxes is None or len(dataset.boxes) == count
        assert dataset.masks is None or len(dataset.masks) == len(dataset.masks.ignored) == count
        assert all((tmp_path / path).is_file() for path in dataset.paths)
        half = dataset.subset(range(0, count, 2))
        assert half.paths == dataset.paths[::2]
        check_label_sets(dataset)


def check_label_sets(dataset: Dataset) -> None:
    """The main label is the first of a photo's labels, its truth that of the pair; pairs are the sets unrolled."""
    full = with_all_labels(dataset)
    sets = full.label_sets
    assert sets is not None and len(sets) == len(full) and (sets.counts > 0).all()
    assert sets.flat.min() >= 0 and sets.flat.max() < dataset.classes
    assert [len(set(sets[n].tolist())) for n in range(len(sets))] == sets.counts.tolist()
    assert full.labels.tolist() == sets.flat[sets.starts[:-1]].tolist()
    pairs = by_label(dataset)
    assert len(pairs) == len(sets.flat) and pairs.labels.tolist() == sets.flat.tolist()
    for n in range(len(full)):
        first = int(sets.starts[n])
        assert pairs.paths[first : first + len(sets[n])] == (full.paths[n],) * len(sets[n])
        if dataset.boxes is not None:
            assert pairs.boxes is not None and full.boxes is not None
            assert pairs.boxes[first].tolist() == full.boxes[n].tolist()
        if dataset.masks is not None:
            assert pairs.masks is not None and full.masks is not None
            assert pairs.masks.instances[first] == full.masks.instances[n]


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_clean_as_generated(tmp_path: Path, name: str) -> None:
    GENERATORS[name].write(tmp_path)
    assert [problem for problem in Check(tmp_path).problems() if not problem.note] == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_layout_takes_an_empty_folder_or_one_of_another(tmp_path: Path, name: str) -> None:
    layout = next(layout for layout in layouts() if name_of(layout) == name)
    assert not layout.recognizes(tmp_path)
    (tmp_path / "metadata").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "notes.json").write_text("[]")
    assert not layout.recognizes(tmp_path)


@pytest.mark.parametrize("name", LAYOUTS)
def test_splits_to_report_on_and_to_choose_with(tmp_path: Path, name: str) -> None:
    GENERATORS[name].write(tmp_path)
    assert (evaluation_split(tmp_path), selection_split(tmp_path)) == REPORTED[name]


def test_the_error_names_every_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    assert all(f"  {name}: " in str(caught.value) for name in LAYOUTS)
    assert "docs/datasets.md" in str(caught.value)


def test_layouts_are_told_apart_in_one_order() -> None:
    priorities = [layout.PRIORITY for layout in layouts()]
    assert len(set(priorities)) == len(priorities)
    assert LAYOUTS[-1] == "image_folder"
