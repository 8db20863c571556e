"""The WSOL metadata layout, each quirk, and its lines under random damage."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualcam.data.lines import BLOCK
from dualcam.datasets import Dataset, evaluation_split, open_dataset, selection_split, splits_beside
from dualcam.errors import DataError
from tests.generators.pictures import HEIGHT, WIDTH, lines, photo
from tests.generators.wsol import write


def boxes(dataset: Dataset) -> list[list[list[float]]]:
    assert dataset.boxes is not None
    return [dataset.boxes[place].tolist() for place in range(len(dataset))]


def rewrite(root: Path, file: str, rows: list[str], split: str = "CUB/test") -> Path:
    path = root / "metadata" / split / f"{file}.txt"
    lines(path, rows)
    return path


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("bom", [True, False])
def test_sizes_and_boxes_with_any_line_ends(tmp_path: Path, ending: str, last: bool, bom: bool) -> None:
    write(tmp_path, ending=ending, last=last, bom=bom)
    dataset = open_dataset(tmp_path, "test")
    assert dataset.sizes is not None and dataset.sizes.tolist() == [[WIDTH, HEIGHT]] * 4
    assert boxes(dataset) == [[[3, 4, 30, 25]], [[4, 4, 30, 25]]] * 2
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert dataset.masks is None
    assert all((tmp_path / path).is_file() for path in dataset.paths)


def test_several_boxes_stay_in_the_order_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, several=True, touching=True)
    assert boxes(open_dataset(tmp_path, "test"))[0] == [[3, 4, WIDTH, 25], [0, 0, 10, 10]]


def test_boxes_need_not_stand_in_the_order_of_the_labels(tmp_path: Path) -> None:
    write(tmp_path, several=True)
    straight = boxes(open_dataset(tmp_path, "test"))
    file = tmp_path / "metadata/CUB/test/localization.txt"
    rows = file.read_text().splitlines()
    lines(file, [*rows[2:], *rows[:2]])
    assert boxes(open_dataset(tmp_path, "test")) == straight
    lines(file, [*rows[::2], *rows[1::2]])
    assert boxes(open_dataset(tmp_path, "test")) == straight


def test_a_photo_without_box_has_an_empty_range(tmp_path: Path) -> None:
    write(tmp_path, unboxed=True)
    assert [len(one) for one in boxes(open_dataset(tmp_path, "train"))] == [0, 1, 1, 1]


@pytest.mark.parametrize("how", ["empty", "absent"])
def test_empty_and_absent_files_state_nothing(tmp_path: Path, how: str) -> None:
    files = ("image_sizes", "localization")
    write(tmp_path, empty=files if how == "empty" else (), absent=files if how == "absent" else ())
    dataset = open_dataset(tmp_path, "test")
    assert (dataset.sizes, dataset.boxes, dataset.masks) == (None, None, None)


@pytest.mark.parametrize("prefix", ["", "OpenImages/"])
def test_masks(tmp_path: Path, prefix: str) -> None:
    write(tmp_path, "OpenImages", several=True, prefix=prefix, empty=("image_sizes",))
    dataset = open_dataset(tmp_path, "test")
    assert dataset.boxes is None and dataset.masks is not None
    assert dataset.masks.instances[0] == (f"{prefix}test/00/test00_0.png", f"{prefix}test/00/test00_1.png")
    assert dataset.masks.ignored[0] == (f"{prefix}test/00/test00_ignore.png",)
    assert all((tmp_path / mask).is_file() for masks in dataset.masks.instances for mask in masks)


def test_masks_in_a_folder_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, "OpenImages")
    for file in sorted(tmp_path.glob("t*/*/*.png")):
        moved = tmp_path / "masks" / file.relative_to(tmp_path)
        moved.parent.mkdir(parents=True, exist_ok=True)
        file.rename(moved)
    dataset = open_dataset(tmp_path, "test")
    assert dataset.masks is not None and dataset.masks.instances[0] == ("masks/test/00/test00_0.png",)
    assert (tmp_path / dataset.masks.instances[0][0]).is_file()


@pytest.mark.parametrize(
    ("dataset", "prefix"),
    [
        ("CARS", None),
        ("CARS", ""),
        ("CARS", "CARS/cars_test/"),
        ("CUB", "images/"),
        ("CUB", "CUB/"),
        ("CUB", "CUB/images/"),
    ],
)
def test_photos_below_folders(tmp_path: Path, dataset: str, prefix: str | None) -> None:
    write(tmp_path, dataset, prefix=prefix, splits=("test",))
    opened = open_dataset(tmp_path, "test")
    assert all((tmp_path / path).is_file() for path in opened.paths)


def test_ids_of_cars_repeat_between_splits(tmp_path: Path) -> None:
    write(tmp_path, "CARS")
    train, test = open_dataset(tmp_path, "train"), open_dataset(tmp_path, "test")
    assert train.paths[0] == "cars_train/000000.jpg"
    assert test.paths[0] == "cars_test/000000.jpg"


def test_the_folder_is_found_though_some_photos_are_missing(tmp_path: Path) -> None:
    write(tmp_path, prefix="images/")
    (tmp_path / open_dataset(tmp_path, "test").paths[0]).unlink()
    assert all(path.startswith("images/") for path in open_dataset(tmp_path, "test").paths)


def test_a_repeated_id_has_its_size_and_boxes_at_each_place(tmp_path: Path) -> None:
    write(tmp_path, several=True)
    file = tmp_path / "metadata/CUB/test/class_labels.txt"
    rows = file.read_text().splitlines()
    lines(file, [*rows, rows[1]])
    dataset = open_dataset(tmp_path, "test")
    assert boxes(dataset)[4] == boxes(dataset)[1]
    assert dataset.sizes is not None and dataset.sizes.shape == (5, 2)


def test_splits_of_several_datasets(tmp_path: Path) -> None:
    write(tmp_path, "CUB")
    write(tmp_path, "CARS")
    with pytest.raises(DataError, match=r"'test' of several datasets: CARS/test, CUB/test; name one"):
        open_dataset(tmp_path, "test")
    with pytest.raises(DataError, match="several datasets"):
        evaluation_split(tmp_path)
    assert open_dataset(tmp_path, "CARS/test").split == "CARS/test"
    write(tmp_path, "ILSVRC", splits=("train", "val", "test"))
    assert selection_split(tmp_path, "ILSVRC/test") == "ILSVRC/val"
    assert selection_split(tmp_path, "CUB/test") is None
    assert splits_beside(tmp_path, "CUB/test") == ["CUB/test", "CUB/train"]


def test_splits_to_report_on_and_to_choose_with(tmp_path: Path) -> None:
    write(tmp_path, splits=("train-weaksup", "train-fullsup", "test"))
    assert (evaluation_split(tmp_path), selection_split(tmp_path)) == ("CUB/test", "CUB/train-fullsup")
    write(tmp_path / "other", named=False, splits=("train", "val"))
    assert (evaluation_split(tmp_path / "other"), selection_split(tmp_path / "other")) == ("val", None)
    write(tmp_path / "third", named=False, splits=("train",))
    assert (evaluation_split(tmp_path / "third"), selection_split(tmp_path / "third")) == (None, None)


ID = "000.Bird/Bird_test_0.jpg"
OTHER = "000.Bird/Bird_test_1.jpg"


@pytest.mark.parametrize(
    ("file", "row"),
    [
        ("localization", f"{ID},1,2,3"),
        ("localization", f"{ID},1,2,3,x"),
        ("localization", f"{ID},1,2,3,nan"),
        ("localization", f"{ID},1,2,3,1_0"),
        ("localization", f"{ID},-1,2,3,4"),
        ("localization", f"{ID},5,2,3,4"),
        ("localization", f"{ID},1,5,3,4"),
        ("localization", "unknown.jpg,1,2,3,4"),
        ("localization", ",1,2,3,4"),
        ("image_sizes", f"{ID},40"),
        ("image_sizes", f"{ID},40,0"),
        ("image_sizes", f"{ID},40,2.5"),
        ("image_sizes", "unknown.jpg,40,30"),
        ("class_labels", f"{ID};1"),
        ("class_labels", f"{ID},-1"),
        ("class_labels", f"{ID},1.5"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, file: str, row: str) -> None:
    write(tmp_path)
    path = tmp_path / f"metadata/CUB/test/{file}.txt"
    good = path.read_text().splitlines()
    lines(path, [*good[:2], "", row, *good[2:]])
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path, "test")
    text = str(caught.value)
    assert text.startswith(f"{path}, line 4: expected ") and repr(row) in text and "mend" in text


@pytest.mark.parametrize(
    "row", ["{0},a.png", "{0},,i.png", "unknown.jpg,a.png,", "{0},again.png,ignore-on-a-later-line.png", ",a.png,"]
)
def test_a_malformed_line_of_masks_is_named(tmp_path: Path, row: str) -> None:
    write(tmp_path, "OpenImages")
    path = tmp_path / "metadata/OpenImages/test/localization.txt"
    good = path.read_text().splitlines()
    lines(path, [*good, row.format(good[0].split(",")[0])])
    with pytest.raises(DataError, match=r"localization.txt, line 5: expected ('<photo>,|a photo that)"):
        open_dataset(tmp_path, "test")


def test_a_size_that_is_lacking_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    rewrite(tmp_path, "image_sizes", [f"{ID},40,30"])
    with pytest.raises(DataError, match=f"states no size of '{OTHER}'; add its line, or remove the file"):
        open_dataset(tmp_path, "test")


def test_lines_beyond_the_first_block_are_numbered_from_the_start_of_the_file(tmp_path: Path) -> None:
    count = 2 * BLOCK + 7
    photo(tmp_path / "0.jpg")
    folder = tmp_path / "metadata/train"
    lines(folder / "class_labels.txt", [f"{number}.jpg,{number % 3}" for number in range(count)])
    rows = [f"{number}.jpg,0,0,{number},1" for number in range(count)]
    lines(folder / "localization.txt", rows)
    dataset = open_dataset(tmp_path)
    assert dataset.boxes is not None
    assert np.array_equal(dataset.boxes.corners[:, 2], np.arange(count))
    rows[BLOCK + 5] = "0.jpg,0,0,1"
    lines(folder / "localization.txt", ["", *rows])
    with pytest.raises(DataError, match=f"line {BLOCK + 7}: .* got '0.jpg,0,0,1'"):
        open_dataset(tmp_path)


names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12)
corner = st.integers(0, 999)
box = st.tuples(corner, corner, corner, corner).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


@given(truth=st.dictionaries(names, st.lists(box, max_size=3), min_size=1, max_size=6), data=st.data())
def test_what_is_written_is_read(tmp_path: Path, truth: dict[str, list[tuple[int, ...]]], data: st.DataObject) -> None:
    ending = data.draw(st.sampled_from(["\n", "\r\n"]))
    last, bom = data.draw(st.booleans()), data.draw(st.booleans())
    folder = tmp_path / "metadata/train"
    lines(folder / "class_labels.txt", [f"{name},{place}" for place, name in enumerate(truth)], ending, last, bom)
    rows = [f"{name},{','.join(map(str, one))}" for name, found in truth.items() for one in found]
    rows = data.draw(st.permutations(rows))
    lines(folder / "localization.txt", rows, ending, last, bom)
    dataset = open_dataset(tmp_path)
    assert dataset.paths == tuple(truth)
    if not rows:
        assert dataset.boxes is None
        return
    for name, found in zip(truth, boxes(dataset), strict=True):
        assert sorted(found) == sorted(map(list, truth[name]))


@given(
    place=st.integers(0, 5),
    damage=st.sampled_from(["drop a field", "a word", "negative", "inverted", "unknown", "infinite"]),
    blanks=st.integers(0, 3),
)
def test_any_damage_is_named_by_file_and_line(tmp_path: Path, place: int, damage: str, blanks: int) -> None:
    folder = tmp_path / "metadata/train"
    lines(folder / "class_labels.txt", [f"{number}.jpg,0" for number in range(6)])
    rows = [f"{number}.jpg,1,2,30,40" for number in range(6)]
    rows[place] = {
        "drop a field": f"{place}.jpg,1,2,30",
        "a word": f"{place}.jpg,1,two,30,40",
        "negative": f"{place}.jpg,-1,2,30,40",
        "inverted": f"{place}.jpg,31,2,30,40",
        "unknown": "x.jpg,1,2,30,40",
        "infinite": f"{place}.jpg,1,2,inf,40",
    }[damage]
    lines(folder / "localization.txt", ["" for _ in range(blanks)] + rows)
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    assert f"localization.txt, line {place + blanks + 1}: expected" in str(caught.value)
    assert repr(rows[place]) in str(caught.value)
