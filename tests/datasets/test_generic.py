"""Formats for data of one's own: boxes.csv, COCO, Pascal VOC, folders of masks."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualcam.datasets import Dataset, open_dataset, splits
from dualcam.errors import DataError
from tests.generators import boxes_csv, coco, mask_folder, voc
from tests.generators.pictures import HEIGHT, WIDTH, lines, photo


def boxes(dataset: Dataset) -> list[list[list[float]]]:
    assert dataset.boxes is not None
    return [dataset.boxes[place].tolist() for place in range(len(dataset))]


def all_there(dataset: Dataset) -> bool:
    masks = [] if dataset.masks is None else [one for several in dataset.masks.instances for one in several]
    return all((dataset.root / path).is_file() for path in (*dataset.paths, *masks))


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_boxes_csv(tmp_path: Path, ending: str, last: bool) -> None:
    boxes_csv.write(tmp_path, ending=ending, last=last, bom=True, several=True)
    assert splits(tmp_path) == ["train", "test"]
    train, test = open_dataset(tmp_path), open_dataset(tmp_path, "test")
    assert (len(train), len(test)) == (4, 2)
    assert test.class_names == ("Monarch", "Zebra, Longwing")
    assert test.labels.tolist() == [0, 1]
    assert boxes(test) == [[[5, 5, 20, 20], [0, 0, WIDTH, HEIGHT]]] * 2
    assert test.masks is not None and all_there(test) and all_there(train)


@pytest.mark.parametrize("drop", ["mask", "split", "class", "name", "class name", "split class name"])
def test_columns_of_boxes_csv_are_found_by_name(tmp_path: Path, drop: str) -> None:
    boxes_csv.write(tmp_path, columns=[name for name in reversed(boxes_csv.COLUMNS) if name not in drop.split()])
    test = open_dataset(tmp_path, "test")
    assert test.labels.tolist() == [0, 1]
    assert (test.masks is None) == ("mask" in drop)
    names = {"name": None, "class name": ("00_Monarch", "01_Zebra_Longwing")}
    names["split class name"] = names["class name"]
    assert test.class_names == names.get(drop, ("Monarch", "Zebra, Longwing"))


def test_boxes_csv_with_a_photo_without_box(tmp_path: Path) -> None:
    boxes_csv.write(tmp_path, unboxed=True)
    assert [len(one) for one in boxes(open_dataset(tmp_path))] == [0, 1, 0, 1]


def test_boxes_csv_without_any_split(tmp_path: Path) -> None:
    photo(tmp_path / "cat/a.jpg")
    lines(tmp_path / "boxes.csv", ["path,x0,y0,x1,y1", "cat/a.jpg,1,2,3,4"])
    assert splits(tmp_path) == []
    assert open_dataset(tmp_path).class_names == ("cat",)
    with pytest.raises(DataError, match="no split 'val'; it has none"):
        open_dataset(tmp_path, "val")


@pytest.mark.parametrize(
    "row",
    [
        "a.jpg,m.png,train,0,Monarch,1,2,3",
        "a.jpg,m.png,train,0,Monarch,1,2,3,x",
        "a.jpg,m.png,train,0,Monarch,1,2,3,",
        "a.jpg,m.png,train,0,Monarch,1,2,0,4",
        "a.jpg,m.png,train,0,Monarch,-1,2,3,4",
        "a.jpg,m.png,train,0.5,Monarch,1,2,3,4",
        "a.jpg,m.png,train,0,Vanessa,1,2,3,4",
        "a.jpg,m.png,,0,Monarch,1,2,3,4",
        ",m.png,train,0,Monarch,1,2,3,4",
        "train/00_Monarch/0000.jpg,m.png,train,1,Monarch,1,2,3,4",
    ],
)
def test_boxes_csv_names_a_malformed_line(tmp_path: Path, row: str) -> None:
    boxes_csv.write(tmp_path)
    path = tmp_path / "boxes.csv"
    good = path.read_text().splitlines()
    lines(path, [*good[:2], "", row, *good[2:]])
    with pytest.raises(DataError, match=r"boxes.csv, line 4: expected"):
        open_dataset(tmp_path)


EMPTY: list[list[int | str]] = [[""] * 4]
words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=9)
edges = st.tuples(*[st.integers(0, 99)] * 4).map(
    lambda e: [min(e[0], e[2]), min(e[1], e[3]), max(e[0], e[2]), max(e[1], e[3])]
)


@given(
    photos=st.dictionaries(words, st.tuples(words, st.lists(edges, max_size=3)), min_size=1, max_size=5), data=st.data()
)
def test_what_is_written_to_boxes_csv_is_read(
    tmp_path: Path, photos: dict[str, tuple[str, list[list[int | str]]]], data: st.DataObject
) -> None:
    rows = [
        [path, name, *map(str, box)] for path, (name, found) in photos.items() for box in (found if found else EMPTY)
    ]
    with (tmp_path / "boxes.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator=data.draw(st.sampled_from(["\n", "\r\n"])))
        writer.writerows([["path", "name", "x0", "y0", "x1", "y1"], *rows])
    dataset = open_dataset(tmp_path)
    assert dataset.paths == tuple(photos)
    assert dataset.class_names is not None
    assert [dataset.class_names[label] for label in dataset.labels] == [name for name, _ in photos.values()]
    if any(found for _, found in photos.values()):
        assert boxes(dataset) == [found for _, found in photos.values()]
    else:
        assert dataset.boxes is None


def test_boxes_csv_names_columns_that_are_lacking(tmp_path: Path) -> None:
    lines(tmp_path / "boxes.csv", ["path,x0,y0", "a.jpg,1,2"])
    with pytest.raises(DataError, match="line 1: expected a header with x1, y1, got 'path,x0,y0'"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("below", ["", "images/"])
def test_coco(tmp_path: Path, below: str) -> None:
    coco.write(tmp_path, below=below, crowd=True)
    assert splits(tmp_path) == ["train", "val"]
    val = open_dataset(tmp_path, "val")
    assert val.class_names == ("cat", "dog")
    assert val.labels.tolist() == [0, 1], "the category with the largest total area; photos without objects left out"
    assert boxes(val) == [[[0, 0, 20.5, 20], [30, 20, 40, 30]], [[2, 2, 7, 7]]]
    assert val.sizes is not None and val.sizes.tolist() == [[WIDTH, HEIGHT]] * 2
    assert val.masks is None and all_there(val)


def test_coco_with_two_years_and_with_one_file(tmp_path: Path) -> None:
    coco.write(tmp_path / "a", year="2014")
    coco.write(tmp_path / "a", year="2017")
    assert splits(tmp_path / "a") == ["train2014", "train2017", "val2014", "val2017"]
    assert all_there(open_dataset(tmp_path / "a", "val2014"))
    coco.write(tmp_path / "b", whole=True, sizes=False)
    whole = open_dataset(tmp_path / "b")
    assert (splits(tmp_path / "b"), len(whole), whole.sizes) == ([], 2, None)
    assert all_there(whole)


def test_coco_names_what_is_wrong(tmp_path: Path) -> None:
    coco.write(tmp_path)
    file = tmp_path / "annotations/instances_train2017.json"
    good = json.loads(file.read_text())
    for key, value in (("bbox", [1, 2, 3]), ("bbox", [1, 2, -3, 4]), ("image_id", 999), ("category_id", 1)):
        broken = json.loads(json.dumps(good))
        broken["annotations"][2][key] = value
        file.write_text(json.dumps(broken))
        with pytest.raises(DataError, match=r"instances_train2017.json, annotation 3 \(id 2\): expected"):
            open_dataset(tmp_path)
    del good["images"]
    file.write_text(json.dumps(good))
    with pytest.raises(DataError, match="is not as COCO has it"):
        open_dataset(tmp_path)
    file.write_text('{"images":\n [}')
    with pytest.raises(DataError, match=r"instances_train2017.json, line 2: expected JSON"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("home", ["", "VOC2007", "VOCdevkit/VOC2007"])
@pytest.mark.parametrize("class_lists", [True, False])
def test_voc(tmp_path: Path, home: str, class_lists: bool) -> None:
    voc.write(tmp_path, home=home, class_lists=class_lists, ending="\r\n")
    assert splits(tmp_path) == ["train", "val"]
    val = open_dataset(tmp_path, "val")
    assert val.class_names == ("dog", "person")
    assert val.labels.tolist() == [1, 0]
    assert boxes(val) == [[[0, 0, 20, 20], [29, 19, WIDTH, HEIGHT]], [[2, 2, 9, 9]]]
    assert val.sizes is not None and val.sizes.tolist() == [[WIDTH, HEIGHT]] * 2
    assert all_there(val)


def test_voc_without_lists_and_with_two_years(tmp_path: Path) -> None:
    voc.write(tmp_path / "a", home="", lists=False)
    assert splits(tmp_path / "a") == []
    assert len(open_dataset(tmp_path / "a")) == 4
    for year in ("VOC2007", "VOC2012"):
        voc.write(tmp_path / "b", home=f"VOCdevkit/{year}")
    assert splits(tmp_path / "b") == ["VOC2007/train", "VOC2007/val", "VOC2012/train", "VOC2012/val"]
    assert all_there(open_dataset(tmp_path / "b", "VOC2012/val"))
    with pytest.raises(DataError, match="several datasets"):
        open_dataset(tmp_path / "b")


def test_voc_names_a_listed_photo_without_annotation(tmp_path: Path) -> None:
    voc.write(tmp_path)
    (tmp_path / "VOCdevkit/VOC2007/Annotations/train001.xml").unlink()
    with pytest.raises(DataError, match=r"Main/train.txt, line 2: expected the name of a file in Annotations/"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("splits_", [(), ("train", "val")])
@pytest.mark.parametrize("nested", [True, False])
def test_mask_folder(tmp_path: Path, splits_: tuple[str, ...], nested: bool) -> None:
    mask_folder.write(tmp_path, splits=splits_, nested=nested, unmasked=True)
    dataset = open_dataset(tmp_path, splits_[1] if splits_ else None)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.masks is not None and [len(one) for one in dataset.masks.instances] == [0, 0, 1, 1]
    assert all_there(dataset)


def test_a_mask_of_two_photos_is_refused(tmp_path: Path) -> None:
    mask_folder.write(tmp_path, nested=False)
    photo(tmp_path / "cat/dog0.jpg")
    with pytest.raises(DataError, match=r"dog0.png could be the mask of cat/dog0.jpg and of dog/dog0.jpg"):
        open_dataset(tmp_path)


def test_a_class_may_be_called_masks(tmp_path: Path) -> None:
    photo(tmp_path / "masks/venice.png")
    photo(tmp_path / "hats/bowler.png")
    dataset = open_dataset(tmp_path)
    assert (dataset.class_names, dataset.masks) == (("hats", "masks"), None)
