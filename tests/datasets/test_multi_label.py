"""Photos with several labels: read from every layout that has them, seen as sets and as pairs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualcam.data.label_sets import LabelSets
from dualcam.data.multi_label import by_label, check_single, count_several, label_counts, with_all_labels
from dualcam.data.truth import Boxes
from dualcam.datasets import open_dataset
from dualcam.errors import DataError
from tests.generators import coco, image_folder, labels_csv, openimages, voc
from tests.generators.pictures import lines, photo

SETS = st.lists(st.lists(st.integers(0, 6), min_size=0, max_size=5, unique=True), min_size=1, max_size=9)


@given(SETS, st.data())
def test_flat_arrays_are_the_lists(lists: list[list[int]], data: st.DataObject) -> None:
    boxes = Boxes.of([[(place, 0, place + 1, 1)] for place in range(sum(map(len, lists)))])
    sets = LabelSets.of(lists, boxes)
    order = np.array(data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=12)), dtype=np.int64)
    chosen = sets.subset(order)
    assert [chosen[n].tolist() for n in range(len(chosen))] == [lists[n] for n in order]
    assert chosen.boxes is not None
    starts = np.cumsum([0, *map(len, lists)])
    pairs = [int(starts[n]) + place for n in order for place in range(len(lists[n]))]
    assert chosen.boxes.corners[:, 0].tolist() == pairs
    naive = [[float(label in lists[n]) for label in range(7)] for n in order]
    assert sets.multi_hot(order, 7).tolist() == naive
    assert label_counts(sets, 7).tolist() == [sum(label in labels for labels in lists) for label in range(7)]


def named(dataset: Any) -> dict[str, list[str]]:
    full = with_all_labels(dataset)
    sets = full.label_sets
    assert sets is not None
    return {
        Path(path).stem: [full.class_names[label] if full.class_names else str(label) for label in sets[place]]
        for place, path in enumerate(full.paths)
    }


def test_coco(tmp_path: Path) -> None:
    coco.write(tmp_path)
    dataset = open_dataset(tmp_path)
    assert named(dataset) == {"000000000000": ["cat", "dog"], "000000000001": ["dog"]}
    pairs = by_label(dataset)
    assert pairs.boxes is not None
    assert [pairs.boxes[place].tolist() for place in range(3)] == [
        [[0, 0, 20.5, 20], [30, 20, 40, 30]],
        [[1, 1, 25, 11]],
        [[2, 2, 7, 7]],
    ]
    assert check_single(dataset) is not None


def test_voc_against_the_annotations(tmp_path: Path) -> None:
    voc.write(tmp_path)
    dataset = open_dataset(tmp_path)
    for stem, labels in named(dataset).items():
        text = next(tmp_path.rglob(f"Annotations/{stem}.xml")).read_text()
        objects = [part.split("<name>")[1].split("</name>")[0] for part in text.split("<object>")[1:]]
        assert set(labels) == set(objects)
    pairs = by_label(dataset)
    assert pairs.boxes is not None and len(pairs.boxes) == sum(map(len, named(dataset).values()))


def test_open_images_against_its_table(tmp_path: Path) -> None:
    openimages.write(tmp_path)
    dataset = open_dataset(tmp_path)
    table = next(tmp_path.rglob("train-annotations-object-segmentation.csv")).read_text().splitlines()
    header = table[0].split(",")
    rows = [dict(zip(header, line.split(","), strict=True)) for line in table[1:]]
    pairs = by_label(dataset)
    assert pairs.masks is not None
    found = sorted(Path(mask).name for masks in pairs.masks.instances for mask in masks)
    stems = {Path(path).stem for path in dataset.paths}
    assert found == sorted(row["MaskPath"] for row in rows if row["ImageID"] in stems)
    assert {stem: len(labels) for stem, labels in named(dataset).items()} == {
        stem: len({row["LabelName"] for row in rows if row["ImageID"] == stem}) for stem in stems
    }


def test_boxes_csv_with_several_classes_a_photo(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "b.jpg")
    rows = ["a.jpg,cat,0,0,4,4", "a.jpg,dog,0,0,30,20", "a.jpg,cat,5,5,9,9", "b.jpg,emu,1,1,2,2"]
    lines(tmp_path / "boxes.csv", ["path,name,x0,y0,x1,y1", *rows])
    dataset = open_dataset(tmp_path)
    assert named(dataset) == {"a": ["dog", "cat"], "b": ["emu"]}
    assert dataset.boxes is not None and dataset.boxes[0].tolist() == [[0, 0, 30, 20]]
    pairs = by_label(dataset)
    assert pairs.boxes is not None and pairs.boxes[1].tolist() == [[0, 0, 4, 4], [5, 5, 9, 9]]


def test_labels_csv(tmp_path: Path) -> None:
    labels_csv.write(tmp_path, ending="\r\n", last=False, bom=True)
    dataset = open_dataset(tmp_path)
    assert named(dataset) == {"a": ["cat", "dog"], "b": ["dog"], "c": ["emu", "cat", "dog"]}
    assert dataset.class_names == ("cat", "dog", "emu")
    with pytest.raises(DataError, match=r"2 of 3 photos .* have several labels; train .* --multi-label"):
        check_single(dataset)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg", "line 3: expected 2 fields"),
        (",cat", "line 3: expected 2 fields, path"),
        ("a.jpg,cat;dog", "line 3: expected a photo that line 2 does not name"),
    ],
)
def test_labels_csv_names_a_malformed_line(tmp_path: Path, row: str, message: str) -> None:
    lines(tmp_path / "labels.csv", ["path,labels", "a.jpg,cat", row])
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path)


def test_wsol_ids_that_repeat_are_one_photo_with_all_its_labels(tmp_path: Path) -> None:
    for name in "ab":
        photo(tmp_path / f"{name}.jpg")
    home = tmp_path / "metadata" / "train"
    lines(home / "class_labels.txt", ["a.jpg,3", "b.jpg,1", "a.jpg,0", "a.jpg,3"])
    dataset = open_dataset(tmp_path)
    full = with_all_labels(dataset)
    assert full.paths == ("a.jpg", "b.jpg")
    assert named(dataset) == {"a": ["3", "0"], "b": ["1"]}
    assert count_several(dataset) == 1
    lines(home / "localization.txt", ["a.jpg,0,0,5,5", "b.jpg,0,0,6,6"])
    with pytest.raises(DataError, match="do not tell whose they are"):
        by_label(open_dataset(tmp_path))


def test_one_label_a_photo_stays_what_it_is(tmp_path: Path) -> None:
    image_folder.write(tmp_path)
    dataset = open_dataset(tmp_path)
    pairs = by_label(dataset)
    assert (pairs.paths, pairs.labels.tolist()) == (dataset.paths, dataset.labels.tolist())
    assert check_single(dataset) is None


def test_a_class_unknown_to_the_lists_is_found_behind_the_main_one(tmp_path: Path) -> None:
    coco.write(tmp_path, whole=True)
    content = json.loads((tmp_path / "annotations.json").read_text())
    content["annotations"][1]["category_id"] = 99
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="annotation 2"):
        open_dataset(tmp_path)
