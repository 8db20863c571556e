"""CUB, Stanford Cars, ImageNet and Open Images straight from their downloads."""

import sys
from pathlib import Path

import pytest

from dualcam.datasets import Dataset, open_dataset, splits
from dualcam.errors import DataError
from tests.generators import cub, ilsvrc, openimages, stanford_cars
from tests.generators.pictures import HEIGHT, WIDTH, lines


def boxes(dataset: Dataset) -> list[list[list[float]]]:
    assert dataset.boxes is not None
    return [dataset.boxes[place].tolist() for place in range(len(dataset))]


def all_there(dataset: Dataset) -> bool:
    masks = [] if dataset.masks is None else [one for several in dataset.masks.instances for one in several]
    return all((dataset.root / path).is_file() for path in (*dataset.paths, *masks))


@pytest.mark.parametrize("below", ["", "CUB_200_2011"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_cub(tmp_path: Path, below: str, ending: str) -> None:
    cub.write(tmp_path, ending=ending, last=False)
    test = open_dataset(tmp_path / below, "test")
    assert test.class_names == ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    assert test.labels.tolist() == [0, 0, 1, 1]
    assert boxes(test)[0] == [[6, 2, 26, 24.5]]
    assert all_there(test) and test.masks is None
    assert set(test.paths).isdisjoint(open_dataset(tmp_path / below).paths)


def test_cub_with_segmentations_and_boxes_to_the_edge(tmp_path: Path) -> None:
    cub.write(tmp_path, masks=True, touching=True)
    dataset = open_dataset(tmp_path)
    assert dataset.masks is not None and all_there(dataset)
    assert boxes(dataset)[0][0][2] == WIDTH


@pytest.mark.parametrize(
    ("file", "row"),
    [
        ("images", "9"),
        ("image_class_labels", "1 3"),
        ("image_class_labels", "99 1"),
        ("train_test_split", "1 2"),
        ("bounding_boxes", "1 2 3 4"),
        ("bounding_boxes", "1 2 3 4 x"),
        ("bounding_boxes", "1 2 3 -4 5"),
        ("bounding_boxes", "99 2 3 4 5"),
        ("classes", "3"),
    ],
)
def test_cub_names_a_malformed_line(tmp_path: Path, file: str, row: str) -> None:
    cub.write(tmp_path)
    path = tmp_path / f"CUB_200_2011/{file}.txt"
    good = path.read_text().splitlines()
    lines(path, [good[0], row, *good[1:]])
    with pytest.raises(DataError, match=f"{file}.txt, line 2: expected"):
        open_dataset(tmp_path)


def test_cub_names_a_photo_without_class(tmp_path: Path) -> None:
    cub.write(tmp_path)
    path = tmp_path / "CUB_200_2011/image_class_labels.txt"
    lines(path, path.read_text().splitlines()[1:])
    with pytest.raises(DataError, match="no line of image 1"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("home", ["", "stanford_cars"])
@pytest.mark.parametrize("nested", [True, False])
def test_stanford_cars(tmp_path: Path, home: str, nested: bool) -> None:
    stanford_cars.write(tmp_path, home=home, nested=nested)
    assert splits(tmp_path) == ["train", "test"]
    train, test = open_dataset(tmp_path), open_dataset(tmp_path, "test")
    assert train.class_names == stanford_cars.NAMES
    assert test.labels.tolist() == [0, 1, 0]
    assert boxes(test) == [[[4, 0, WIDTH, HEIGHT]]] * 3
    assert all_there(train) and all_there(test)
    assert {Path(path).name for path in train.paths} == {Path(path).name for path in test.paths}


def test_stanford_cars_without_labels_of_test(tmp_path: Path) -> None:
    stanford_cars.write(tmp_path, labelled=False)
    assert splits(tmp_path) == ["train"]
    with pytest.raises(DataError, match="no split 'test'; it has train"):
        open_dataset(tmp_path, "test")


def test_stanford_cars_names_a_bad_record_and_a_damaged_file(tmp_path: Path) -> None:
    stanford_cars.write(tmp_path, label=3)
    with pytest.raises(DataError, match=r"cars_train_annos.mat, record 1: expected"):
        open_dataset(tmp_path)
    (tmp_path / "stanford_cars/devkit/cars_train_annos.mat").write_bytes(b"no mat file at all" * 20)
    with pytest.raises(DataError, match=r"cars_train_annos.mat is no MATLAB file"):
        open_dataset(tmp_path)


def test_stanford_cars_without_scipy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stanford_cars.write(tmp_path)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"needs SciPy to be read; install dualcam\[cars\]"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("home", ["ILSVRC", ""])
@pytest.mark.parametrize("lists", [True, False])
def test_ilsvrc(tmp_path: Path, home: str, lists: bool) -> None:
    ilsvrc.write(tmp_path, home=home, lists=lists)
    train, val = open_dataset(tmp_path), open_dataset(tmp_path, "val")
    assert splits(tmp_path) == ["train", "val"]
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert boxes(train) == [[[2, 0, WIDTH, 20]], [], [[2, 0, WIDTH, 20]], []]
    assert train.sizes is None, "photos without annotation have no stated size"
    assert val.labels.tolist() == [1, 0], "val photos are of the class that their objects have"
    assert boxes(val) == [[[0, 0, WIDTH, HEIGHT], [4, 5, 10, 12]]] * 2
    assert val.sizes is not None and val.sizes.tolist() == [[WIDTH, HEIGHT]] * 2
    assert val.class_names == ("tench, Tinca tinca", "goldfish, Carassius auratus")
    assert all_there(train) and all_there(val)


def test_ilsvrc_takes_boxes_from_the_solution_where_it_is_there(tmp_path: Path) -> None:
    ilsvrc.write(tmp_path)
    expected = boxes(open_dataset(tmp_path, "val"))
    ilsvrc.write(tmp_path / "other", xml=False, solution=True)
    val = open_dataset(tmp_path / "other", "val")
    assert boxes(val) == expected
    assert val.labels.tolist() == [1, 0]
    assert open_dataset(tmp_path / "other").boxes is None


def test_ilsvrc_classes_without_names_or_with_one_name_twice(tmp_path: Path) -> None:
    ilsvrc.write(tmp_path / "a", mapping=False)
    ilsvrc.write(tmp_path / "b", names=("crane", "crane"))
    for root in ("a", "b"):
        assert open_dataset(tmp_path / root, "val").class_names == ilsvrc.WNIDS


@pytest.mark.parametrize("row", ["x,n01440764 1 2 3", "x", "x,", "x,n01440764 1 2 0 4", "x,n01440764 1 2 c 4"])
def test_ilsvrc_names_a_malformed_line_of_the_solution(tmp_path: Path, row: str) -> None:
    ilsvrc.write(tmp_path, solution=True)
    path = tmp_path / "LOC_val_solution.csv"
    lines(path, [*path.read_text().splitlines(), row])
    with pytest.raises(DataError, match=r"LOC_val_solution.csv, line 4: expected '<photo>,<wnid>"):
        open_dataset(tmp_path, "val")


def test_ilsvrc_names_damaged_xml(tmp_path: Path) -> None:
    ilsvrc.write(tmp_path)
    file = tmp_path / "ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml"
    good = file.read_text()
    second = good[: good.rindex("<object>")].count("\n") + 1
    file.write_text(good.replace("<xmin>5</xmin>", "<xmin>50</xmin>"))
    with pytest.raises(DataError, match=rf"00000001.xml, line {second}: expected a <bndbox>.*object 2"):
        open_dataset(tmp_path, "val")
    file.write_text(good[: len(good) // 2])
    with pytest.raises(DataError, match=r"00000001.xml, line \d+: expected XML"):
        open_dataset(tmp_path, "val")
    file.unlink()
    with pytest.raises(DataError, match="is of class None, which is not among the 2 known"):
        open_dataset(tmp_path, "val")


@pytest.mark.parametrize("masks", ["masks", "{split}-masks", "masks/{split}"])
@pytest.mark.parametrize("photos", ["", "images"])
def test_open_images(tmp_path: Path, masks: str, photos: str) -> None:
    openimages.write(tmp_path, masks=masks, photos=photos, ending="\r\n", undownloaded=True)
    assert splits(tmp_path) == ["train", "val", "test"]
    dataset = open_dataset(tmp_path, "validation")
    assert (dataset.split, len(dataset)) == ("val", 2), "photos that are not there are left out"
    assert dataset.class_names == ("Cat", "Dog")
    assert dataset.labels.tolist() == [0, 1]
    assert dataset.masks is not None and [len(one) for one in dataset.masks.instances] == [2, 1]
    assert all_there(dataset)


@pytest.mark.parametrize("row", ["a,b", "a,b,c,d,0.1,0.2,0.1,1.5,0,", "a,b,c,d,0.1,x,0.1,0.5,0,", ",b,c,d,0,1,0,1,0,"])
def test_open_images_names_a_malformed_line(tmp_path: Path, row: str) -> None:
    openimages.write(tmp_path, descriptions=False)
    assert open_dataset(tmp_path, "test").class_names == (openimages.CAT, openimages.DOG)
    path = tmp_path / "test-annotations-object-segmentation.csv"
    lines(path, [*path.read_text().splitlines(), row])
    with pytest.raises(DataError, match=r"object-segmentation.csv, line 6: expected 10 fields"):
        open_dataset(tmp_path, "test")


def test_open_images_without_photos_or_header(tmp_path: Path) -> None:
    openimages.write(tmp_path)
    for photo in (tmp_path / "test").iterdir():
        photo.unlink()
    with pytest.raises(DataError, match=r"no photos in test/ or images/test/"):
        open_dataset(tmp_path, "test")
    lines(tmp_path / "train-annotations-object-segmentation.csv", ["a,b"])
    with pytest.raises(DataError, match="line 1: expected a header with MaskPath"):
        open_dataset(tmp_path)
