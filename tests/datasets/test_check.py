"""`dualcam data check`: each kind of problem, planted and found."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dualcam.cli.main import run
from dualcam.data.check import Check, Problem
from tests.generators import boxes_csv, coco, image_folder, mask_folder, openimages, voc, wsol
from tests.generators.pictures import HEIGHT, WIDTH, lines, mask, photo


def found(root: Path, *, open_photos: bool = True) -> list[Problem]:
    return list(Check(root, open_photos=open_photos).problems())


def only(problems: list[Problem]) -> Problem:
    serious = [problem for problem in problems if not problem.note]
    assert len(serious) == 1, serious
    return serious[0]


def change(root: Path, file: str, old: str, new: str, split: str = "test") -> None:
    path = root / f"metadata/CUB/{split}/{file}.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


PHOTO = "000.Bird/Bird_test_0.jpg"


def test_a_missing_photo_is_found_with_and_without_opening(tmp_path: Path) -> None:
    wsol.write(tmp_path)
    (tmp_path / PHOTO).unlink()
    for opening in (True, False):
        problem = only(found(tmp_path, open_photos=opening))
        assert (problem.kind, problem.split, problem.photo) == ("missing file", "CUB/test", PHOTO)


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_an_unreadable_photo(tmp_path: Path, damage: str) -> None:
    wsol.write(tmp_path)
    whole = (tmp_path / PHOTO).read_bytes()
    (tmp_path / PHOTO).write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"no photo"}[damage])
    problem = only(found(tmp_path))
    assert (problem.kind, problem.photo) == ("unreadable photo", PHOTO)
    assert not found(tmp_path, open_photos=False), "photos are not opened"


def test_another_size_than_stated(tmp_path: Path) -> None:
    wsol.write(tmp_path)
    photo(tmp_path / PHOTO, size=(WIDTH + 1, HEIGHT))
    problem = only(found(tmp_path))
    assert (problem.kind, problem.detail) == ("size differs", "stated 40 x 30, the upright photo has 41 x 30")


@pytest.mark.parametrize("stated", [True, False])
def test_boxes_out_of_bounds_and_empty_ones(tmp_path: Path, stated: bool) -> None:
    wsol.write(tmp_path, touching=True, absent=() if stated else ("image_sizes",))
    assert not found(tmp_path), "x1 == w is inside"
    change(tmp_path, "localization", f"{PHOTO},3,4,{WIDTH},25", f"{PHOTO},3,4,{WIDTH + 1},25")
    problem = only(found(tmp_path))
    assert (problem.kind, problem.detail) == ("box out of bounds", "3, 4, 41, 25 of 40 x 30")
    change(tmp_path, "localization", f"{PHOTO},3,4,{WIDTH + 1},25", f"{PHOTO},3,4,3,25")
    assert only(found(tmp_path)).kind == "empty box"


def test_labels_that_train_does_not_have_and_classes_without_photos(tmp_path: Path) -> None:
    wsol.write(tmp_path)
    change(tmp_path, "class_labels", f"{PHOTO},0", f"{PHOTO},3")
    problems = found(tmp_path)
    assert only(problems).kind == "label outside classes"
    assert [(item.kind, item.detail) for item in problems if item.note] == [("class without photos", "class 2")]


def test_a_class_without_photos_in_train_is_no_note(tmp_path: Path) -> None:
    wsol.write(tmp_path, splits=("train",))
    change(tmp_path, "class_labels", "Bird_train_0.jpg,0", "Bird_train_0.jpg,3", "train")
    assert only(found(tmp_path)).kind == "class without photos"


def test_classes_that_differ_between_splits(tmp_path: Path) -> None:
    image_folder.write(tmp_path, splits=("train",), classes=("cat", "dog"))
    image_folder.write(tmp_path, splits=("val",), classes=("cat", "emu"))
    problem = only(found(tmp_path))
    assert (problem.kind, problem.split) == ("classes differ", "val")
    assert "dog, emu" in problem.detail


def test_an_id_twice_in_a_split(tmp_path: Path) -> None:
    wsol.write(tmp_path)
    change(tmp_path, "class_labels", f"{PHOTO},0", f"{PHOTO},0\n{PHOTO},0")
    problem = only(found(tmp_path))
    assert (problem.kind, problem.photo) == ("repeated id", PHOTO)


def test_lists_that_disagree(tmp_path: Path) -> None:
    wsol.write(tmp_path)
    change(tmp_path, "image_ids", PHOTO, "other.jpg")
    assert [(problem.kind, problem.photo) for problem in found(tmp_path)] == [
        ("photo without label", "other.jpg"),
        ("photo not listed", PHOTO),
    ]


def test_a_leak_between_train_and_test_and_a_duplicate(tmp_path: Path) -> None:
    wsol.write(tmp_path)
    shutil.copy(tmp_path / "000.Bird/Bird_train_0.jpg", tmp_path / PHOTO)
    problem = only(found(tmp_path))
    kind, other = "content in several splits", "the same bytes as 000.Bird/Bird_{}_0.jpg of CUB/{}"
    assert (problem.kind, problem.split, problem.photo) == (kind, "CUB/train", "000.Bird/Bird_train_0.jpg")
    assert problem.detail == other.format("test", "test")
    shutil.copy(tmp_path / PHOTO, tmp_path / "001.Bird/Bird_test_1.jpg")
    assert sorted(problem.kind for problem in found(tmp_path)) == [kind, "duplicate"]


def test_one_photo_in_two_splits_is_found_without_opening(tmp_path: Path) -> None:
    wsol.write(tmp_path)
    for file in ("class_labels", "localization", "image_sizes", "image_ids"):
        change(tmp_path, file, PHOTO, "000.Bird/Bird_train_0.jpg")
    for opening in (True, False):
        assert only(found(tmp_path, open_photos=opening)).kind == "photo in several splits"


def test_repeated_ids_of_cars_are_a_note(tmp_path: Path) -> None:
    wsol.write(tmp_path, "CARS")
    problems = found(tmp_path)
    assert {(problem.kind, problem.note) for problem in problems} == {("id in several splits", True)}
    assert len(problems) == 4


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_ground_truth_is_a_note_in_train_only(tmp_path: Path, split: str) -> None:
    wsol.write(tmp_path, splits=(split,), unboxed=True)
    assert [(item.kind, item.note) for item in found(tmp_path)] == [("no ground truth", split == "train")]


@pytest.mark.parametrize("which", ["test00_0", "test00_ignore"])
def test_masks(tmp_path: Path, which: str) -> None:
    wsol.write(tmp_path, "OpenImages", several=True)
    file = tmp_path / f"test/00/{which}.png"
    kinds = []
    for size in ((WIDTH + 5, HEIGHT), (2 * WIDTH, 2 * HEIGHT)):
        mask(file, size=size)
        kinds += [(problem.kind, problem.note) for problem in found(tmp_path)]
    file.write_bytes(b"no mask")
    kinds += [(problem.kind, problem.note) for problem in found(tmp_path)]
    file.unlink()
    kinds += [(problem.kind, problem.note) for problem in found(tmp_path)]
    expected = [("mask of other size", False), ("mask of other scale", True), ("unreadable mask", False)]
    assert kinds == [*expected, ("missing mask", False)]
    assert only(found(tmp_path, open_photos=False)).kind == "missing mask"
    mask(file, box=(0, 0, 0, 0))
    assert [problem.kind for problem in found(tmp_path)] == (["empty mask"] if which == "test00_0" else [])


def test_masks_at_another_scale_than_their_photos_are_notes(tmp_path: Path) -> None:
    openimages.write(tmp_path, scale=2)
    assert {(problem.kind, problem.note) for problem in found(tmp_path)} == {("mask of other scale", True)}


def test_a_malformed_split_does_not_hide_the_others(tmp_path: Path) -> None:
    wsol.write(tmp_path)
    change(tmp_path, "localization", ",3,", ",x,")
    (tmp_path / "000.Bird/Bird_train_0.jpg").unlink()
    problems = found(tmp_path)
    assert [(item.kind, item.split) for item in problems] == [("malformed", "CUB/test"), ("missing file", "CUB/train")]
    assert "localization.txt, line 1" in problems[0].detail


def test_a_layout_whose_splits_can_not_be_told(tmp_path: Path) -> None:
    boxes_csv.write(tmp_path)
    lines(tmp_path / "boxes.csv", ["path,x0"])
    assert only(found(tmp_path)).kind == "malformed"


def test_photos_without_masks(tmp_path: Path) -> None:
    mask_folder.write(tmp_path, splits=("train", "val"), unmasked=True)
    missing = [problem for problem in found(tmp_path) if problem.kind == "no ground truth"]
    assert [(item.split, item.note) for item in missing] == [("train", True)] * 2 + [("val", False)] * 2


def test_unions_of_splits_are_no_leak(tmp_path: Path) -> None:
    voc.write(tmp_path)
    sets = tmp_path / "VOCdevkit/VOC2007/ImageSets/Main"
    (sets / "trainval.txt").write_text((sets / "train.txt").read_text() + (sets / "val.txt").read_text())
    assert not found(tmp_path)


def test_turned_photos_are_held_against_their_upright_size(tmp_path: Path) -> None:
    coco.write(tmp_path)
    file = tmp_path / "train2017/000000000000.jpg"
    with Image.open(file) as image:
        exif = image.getexif()
        exif[274] = 6
        image.save(file, exif=exif)
    assert only(found(tmp_path)).detail == "stated 40 x 30, the upright photo has 30 x 40"


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "data", tmp_path / "found.json"
    wsol.write(data)
    assert run(["data", "check", str(data)]) == 0
    assert "layout wsol; photos by split: CUB/test 4, CUB/train 4; clean" in capsys.readouterr().out
    for number in range(2):
        (data / f"000.Bird/Bird_test_{number}.jpg").unlink()
    assert run(["data", "check", str(data), "--json", str(out)]) == 1
    text = capsys.readouterr().out
    assert "missing file" in text and PHOTO in text and "2 problems" in text
    report = json.loads(out.read_text())
    assert report["photos"] == {"CUB/test": 4, "CUB/train": 4}
    assert report["counts"] == [{"split": "CUB/test", "kind": "missing file", "note": False, "count": 2}]
    assert [item["photo"] for item in report["problems"]] == [PHOTO, "000.Bird/Bird_test_1.jpg"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["data", "found.json"]


def test_command_without_opening_photos(tmp_path: Path) -> None:
    wsol.write(tmp_path)
    (tmp_path / PHOTO).write_bytes(b"")
    assert run(["data", "check", str(tmp_path), "--no-photos"]) == 0
    assert run(["data", "check", str(tmp_path)]) == 1


def test_mistakes_of_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", str(tmp_path / "absent")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert run(["data", "check", str(tmp_path)]) == 2
    assert "no layout that dualcam knows" in capsys.readouterr().err
    wsol.write(tmp_path)
    (tmp_path / "file").write_text("")
    assert run(["data", "check", str(tmp_path), "--json", str(tmp_path / "file" / "found.json")]) == 2
    assert "can not be written" in capsys.readouterr().err
    assert run(["data", "check", str(tmp_path), "--workers", "0"]) == 2


def test_the_check_does_without_torch(tmp_path: Path) -> None:
    """The check of a million photos should not begin with half a gigabyte."""
    wsol.write(tmp_path)
    script = (
        "import sys\nfrom dualcam.cli.main import run\n"
        f"assert run(['data', 'check', {str(tmp_path)!r}]) == 0\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
