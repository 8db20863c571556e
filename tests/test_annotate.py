"""Pseudo-boxes: regions, run lengths, and files that other programs read back to the pixel."""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dualcam import DualBranch
from dualcam.annotate import Summary, annotate
from dualcam.annotation import Annotation, ClassRegions, Region, category_names, formats, rle
from dualcam.annotation.agreement import TrueBoxes, as_table, judge, total
from dualcam.annotation.formats import Stems
from dualcam.annotation.ledger import Ledger
from dualcam.annotation.regions import class_regions, find_regions
from dualcam.annotation.settings import BoxSettings, ExportSettings
from dualcam.classes import match_classes
from dualcam.data.photos import open_photo
from dualcam.data.truth import Boxes
from dualcam.data.voc_xml import read_annotation
from dualcam.datasets import Dataset, open_dataset
from dualcam.errors import CheckpointError, ChoiceError, ClassNotFound, DataError
from dualcam.localize import find_boxes, iou
from tests.models import CLASSES, wrapped

NEGATIVE = 4
"""The class for which the model of these tests has no positive evidence anywhere."""
NAMES = ("copper", "crane", "crane", "weiß & <grau>", "nothing")
ORIENTATION = 0x0112
of_pycocotools = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def model() -> DualBranch:
    model = wrapped("pooled-linear")
    model.class_names = NAMES
    with torch.no_grad():
        model.sigmoid_head.rows().weight[NEGATIVE] = -1.0
    return model


def picture(path: Path, seed: int, size: tuple[int, int] = (60, 40), turned: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (5, 7, 3), np.uint8))
    exif = Image.Exif()
    if turned:
        exif[ORIENTATION] = turned
    small.resize(size, Image.Resampling.BICUBIC).save(path, exif=exif)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Six photos in one folder: of usual sizes, one turned by EXIF, one with a name that is not ASCII, one large."""
    root = tmp_path / "album"
    picture(root / "plain.png", 0)
    picture(root / "turned.jpg", 1, (90, 50), turned=6)
    picture(root / "größe 大.png", 2, (31, 77))
    picture(root / "negative.png", 3)
    picture(root / "large.png", 4, (1500, 700))
    picture(root / "PLAIN.jpg", 5, (33, 33))
    names = ("plain.png", "turned.jpg", "größe 大.png", "negative.png", "large.png", "PLAIN.jpg")
    labels = np.array([0, 1, 2, NEGATIVE, 3, 0])
    truth = Boxes.of([[[0, 0, 60, 40]], [[5, 5, 40, 80], [0, 0, 3, 3]], [], [[0, 0, 9, 9]], [[9, 9, 10, 10]], []])
    return Dataset(root, "all", names, labels, CLASSES, NAMES, boxes=truth)


def run(model: DualBranch, photos: Any, out: Path, form: str = "coco", **changes: Any) -> Summary:
    boxes = {key: changes.pop(key) for key in list(changes) if key in BoxSettings.__dataclass_fields__}
    export = {key: changes.pop(key) for key in list(changes) if key in ExportSettings.__dataclass_fields__}
    return annotate(model, photos, out, BoxSettings(**boxes), ExportSettings(format=form, **export), **changes)


def found(out: Path) -> dict[str, Annotation]:
    """Return the annotations of a folder by file name."""
    run = json.loads((out / "annotate.json").read_text())
    return {Path(item.path).name: item for item in Ledger(out, run).annotations()}


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@of_pycocotools
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_run_lengths_are_those_of_pycocotools(height: int, width: int, seed: int, share: float) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(seed).random((height, width)) < share
    counts = rle.encode(mask)
    assert (rle.decode(counts, height, width) == mask).all()
    assert rle.area(counts) == mask.sum()
    theirs = coco.frPyObjects({"size": [height, width], "counts": list(counts)}, height, width)
    assert (coco.decode(theirs) == mask).all()
    with pytest.raises(ValueError, match="must sum to"):
        rle.decode((*counts, 1), height, width)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.2, 0.7]), st.integers(9, 40), st.integers(9, 40))
def test_regions_are_the_boxes_of_localize(seed: int, threshold: float, width: int, height: int) -> None:
    heat = np.random.default_rng(seed).random((9, 9)).astype(np.float32) ** 6
    heat /= heat.max()
    boxes = find_boxes(heat, threshold, scale=(width / 9, height / 9))
    regions = find_regions(heat, threshold, (width, height))
    assert [region.box for region in regions] == [(box.x0, box.y0, box.x1, box.y1) for box in boxes]
    assert [region.evidence for region in regions] == [box.score for box in boxes]
    for region in regions:
        y, x = np.nonzero(rle.decode(region.counts, height, width))
        assert region.box == (x.min(), y.min(), x.max() + 1, y.max() + 1)
    assert find_regions(heat, threshold, (width, height), most=1) == regions[:1]


def test_a_flat_map_has_no_region() -> None:
    assert find_regions(np.zeros((4, 4), np.float32), 0.2, (8, 8)) == ()


def test_class_names_become_different() -> None:
    assert category_names(NAMES, 5) == ("copper", "crane (1)", "crane (2)", "weiß & <grau>", "nothing")
    assert category_names(None, 3) == ("0", "1", "2")


def test_no_two_photos_share_a_stem() -> None:
    stems = Stems()
    paths = ["/a/one.jpg", "/b/one.jpg", "/a/ONE.png", "/a/o\nne.jpg", f"/a/{'ö' * 100}.jpg", "/a/one.jpg"]
    names = [stems.stem_of(path) for path in paths]
    assert names[0] == names[-1] == "one"
    assert names[3] == "o_ne"
    assert len({name.casefold() for name in names}) == 5
    assert all(len(name.encode()) < 150 for name in names)


def test_boxes_are_those_of_the_label(model: DualBranch, dataset: Dataset, tmp_path: Path) -> None:
    summary = run(model, dataset, tmp_path / "out")
    items = found(tmp_path / "out")
    assert [item.classes[0].index for item in items.values()] == dataset.labels.tolist()
    assert (summary.photos, summary.boxes, summary.without_boxes, summary.broken) == (6, 5, 1, 0)
    assert not items["negative.png"].boxes
    assert (items["turned.jpg"].width, items["turned.jpg"].height) == (50, 90)
    for name, label in zip(dataset.paths, dataset.labels.tolist(), strict=True):
        evidence = model.explain(dataset.root / name, label)[0][0]
        classes = items[name].classes[0]
        assert classes.score == pytest.approx(evidence.probability, rel=1e-5)
        best = evidence.boxes()[:1]
        assert [region.box for region in classes.regions] == [(box.x0, box.y0, box.x1, box.y1) for box in best]
        assert (items[name].width, items[name].height) == open_photo(dataset.root / name).size
        assert class_regions(evidence, 0.2, 1) == classes.regions


def test_all_components_and_the_models_own_choice(model: DualBranch, dataset: Dataset, tmp_path: Path) -> None:
    photos = [str(dataset.root / path) for path in dataset.paths]
    run(model, photos, tmp_path / "out", classes=("top2",), boxes="all", normalize="minmax", threshold=0.7)
    for name, item in found(tmp_path / "out").items():
        evidence = model.explain(dataset.root / name, "top2", normalize="minmax")[0]
        assert [one.index for one in item.classes] == [one.index for one in evidence]
        for one, mine in zip(evidence, item.classes, strict=True):
            assert len(mine.regions) == len(one.boxes(0.7))
    assert any(len(one.regions) > 1 for item in found(tmp_path / "out").values() for one in item.classes)


@of_pycocotools
def test_pycocotools_reads_boxes_and_masks(model: DualBranch, dataset: Dataset, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO(str(run(model, dataset, tmp_path / "out").file))
    items = found(tmp_path / "out")
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == list(dataset.paths)
    assert [item["id"] for item in coco.loadCats(coco.getCatIds())] == [1, 2, 3, 4, 5]
    for image in coco.loadImgs(coco.getImgIds()):
        item = items[image["file_name"]]
        assert (image["width"], image["height"]) == (item.width, item.height)
        entries = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert len(entries) == len(item.boxes)
        for entry, (classes, region) in zip(entries, item.boxes, strict=True):
            mask = rle.decode(region.counts, item.height, item.width)
            assert (coco.annToMask(entry) == mask).all()
            assert entry["area"] == mask.sum()
            x, y, width, height = entry["bbox"]
            assert (x, y, x + width, y + height) == region.box
            assert entry["category_id"] == classes.index + 1
            assert (entry["score"], entry["evidence"]) == (classes.score, region.evidence)


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_supervision_reads_the_same_pixels(model: DualBranch, dataset: Dataset, tmp_path: Path, form: str) -> None:
    detection = pytest.importorskip("supervision").DetectionDataset
    out = tmp_path / "out"
    file = run(model, dataset, out, form, boxes="all", threshold=0.6, normalize="minmax", workers=0).file
    expected = {Path(item.path).resolve(): item for item in found(out).values()}
    if form == "coco":
        read = detection.from_coco(str(dataset.root), str(file))
    elif form == "yolo":
        read = detection.from_yolo(str(out / "images"), str(out / "labels"), str(file))
    else:
        (dataset.root / "PLAIN.jpg").unlink()  # its stem is another photo's but for case
        read = detection.from_pascal_voc(str(dataset.root), str(file))
        del expected[(dataset.root / "PLAIN.jpg").resolve()]
    names = category_names(NAMES, CLASSES)
    assert form == "voc" or tuple(read.classes) == names
    assert {Path(path).resolve() for path in read.image_paths} == expected.keys()
    for path, image, detections in read:
        item = expected[Path(path).resolve()]
        assert image.shape[:2] == (item.height, item.width)
        assert np.abs(detections.xyxy - np.array([region.box for _, region in item.boxes]).reshape(-1, 4)).max(
            initial=0
        ) < (1e-2 if form == "yolo" else 1e-9)
        labels = [] if detections.class_id is None else [read.classes[index] for index in detections.class_id]
        assert labels == [names[one.index] for one, _ in item.boxes]
        if form == "coco" and item.boxes:
            for mask, (_, region) in zip(detections.mask, item.boxes, strict=True):
                assert (mask == rle.decode(region.counts, item.height, item.width)).all()


def test_yolo_scores_and_names(model: DualBranch, dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(model, dataset, out, "yolo")
    links = {path.name: path.resolve().name for path in (out / "images").iterdir()}
    assert len(links) == 6 and set(links.values()) == set(dataset.paths)
    assert {Path(name).stem for name in links} == {path.stem for path in (out / "labels").iterdir()}
    assert (out / "train.txt").read_text(encoding="utf-8").splitlines() == [
        f"./images/{next(link for link, name in links.items() if name == path)}" for path in dataset.paths
    ]
    assert (out / "labels" / "negative.txt").read_text() == ""
    assert len((out / "labels" / "plain.txt").read_text().split()) == 5
    scores = rows(out / "scores.csv")
    assert len(scores) == 5
    assert {row["path"] for row in scores} == set(dataset.paths) - {"negative.png"}
    run(model, dataset, out, "yolo", yolo_scores=True, yolo_images="list")
    words = (out / "labels" / "plain.txt").read_text().split()
    assert float(words[5]) == pytest.approx(found(out)["plain.png"].classes[0].score, abs=1e-6)
    assert list((out / "images").iterdir()) == []
    listed = (out / "train.txt").read_text(encoding="utf-8").splitlines()
    assert listed == [str(dataset.root / path) for path in dataset.paths]


def test_voc_is_read_back_by_dualcam(model: DualBranch, dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = run(model, dataset, out, "voc").file
    assert len(list(folder.iterdir())) == 6
    read = read_annotation(folder / "turned.xml")
    item = found(out)["turned.jpg"]
    assert read.size == (item.width, item.height) == (50, 90)
    assert read.objects == (("crane (1)", tuple(map(float, item.boxes[0][1].box))),)
    assert read_annotation(folder / "negative.xml").objects == ()


def test_csv_is_a_dataset(model: DualBranch, dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copy(run(model, dataset, out, "csv").file, dataset.root / "boxes.csv")
    read = open_dataset(dataset.root)
    assert read.paths == dataset.paths
    assert read.labels.tolist() == dataset.labels.tolist()
    assert read.class_names == category_names(NAMES, CLASSES)
    assert read.boxes is not None
    for place, item in enumerate(found(out).values()):
        assert read.boxes[place].tolist() == [list(region.box) for _, region in item.boxes]
    first = rows(out / "boxes.csv")[0]
    assert float(first["score"]) == found(out)["plain.png"].classes[0].score


def test_masks_are_pictures_of_the_photos_size(model: DualBranch, dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    table = rows(run(model, dataset, out, "masks").file)
    items = found(out)
    assert [row["path"] for row in table] == list(dataset.paths)
    for row in table:
        item = items[row["path"]]
        if not item.boxes:
            assert row["mask"] == ""
            continue
        with Image.open(out / row["mask"]) as mask:
            assert mask.mode == "L"
            expected = rle.decode(item.boxes[0][1].counts, item.height, item.width)
            assert (np.asarray(mask) == np.where(expected, 255, 0)).all()
    assert len(list((out / "masks").iterdir())) == 5


def test_agreement_with_true_boxes(model: DualBranch, dataset: Dataset, tmp_path: Path) -> None:
    summary = run(model, dataset, tmp_path / "out")
    items, tallies = found(tmp_path / "out"), summary.tallies
    assert tallies is not None and dataset.boxes is not None
    assert list(tallies) == ["copper", "crane", "weiß & <grau>"]
    best = [
        max(iou(items[name].boxes[0][1].box, box) for box in dataset.boxes[place].tolist())
        for place, name in enumerate(dataset.paths)
        if name in {"plain.png", "turned.jpg", "large.png"}
    ]
    everything = total(tallies)
    assert (everything.boxes, everything.judged, everything.photos) == (5, 3, 3)
    assert everything.iou_50 == sum(value >= 0.5 for value in best)
    assert everything.iou_70 == sum(value >= 0.7 for value in best)
    # A centred box of half the area has an IoU of exactly one half with the whole photo.
    assert tallies["copper"].center_70 == 0
    written = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert written["true_boxes"]["classes"]["copper"]["boxes"] == 2
    assert written["photos_without_boxes"] == 1
    assert as_table(tallies).row_count == 4


def test_judge_by_hand() -> None:
    region = Region((0, 0, 10, 10), 1.0, ())
    item = Annotation("a", "/a", 40, 40, (ClassRegions(0, "x", 0.5, (region,)),))
    near, off = np.array([[0.0, 0, 10, 6]]), np.array([[20.0, 20, 30, 30]])
    tally = judge([item], TrueBoxes(Boxes.of([[*near, *off]]), ["/a"]))["x"]
    assert (tally.iou_50, tally.iou_70, tally.center_50) == (1, 0, 0)
    assert judge([item], TrueBoxes(Boxes.of([]), []))["x"].judged == 0
    assert judge([item], TrueBoxes(Boxes.of([[(6.0, 6, 34, 34)]]), ["/a"]))["x"].center_70 == 1
    pairs = Boxes.of([off.tolist(), near.tolist()])
    assert judge([item], TrueBoxes(pairs, ["/a", "/a"], [0, 1]))["x"].iou_50 == 0, "only boxes of its own class count"
    assert judge([item], TrueBoxes(pairs, ["/a", "/a"], [1, 0]))["x"].iou_50 == 1
    assert judge([item], TrueBoxes(pairs, ["/a", "/a"], [1, 2]))["x"].judged == 0


def test_min_score_and_format_need_no_second_run(
    model: DualBranch, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(model, dataset, out, "masks")
    scores = sorted(classes.score for item in found(out).values() for classes, _ in item.boxes)
    monkeypatch.setattr("dualcam.annotate.run_model", None)
    summary = run(model, dataset, out, "masks", min_score=scores[2])
    assert (summary.photos, summary.boxes) == (6, 3)
    assert len(list((out / "masks").iterdir())) == 3, "masks of the earlier export are gone"
    summary = run(model, dataset, out, "masks", min_score=scores[2], drop_empty=True)
    assert (summary.photos, summary.boxes, summary.without_boxes) == (3, 3, 0)
    assert len(rows(run(model, dataset, out, "csv", min_score=1.0).file)) == 6
    assert {path.name for path in out.iterdir()} == {
        *("annotate.json", "annotations.jsonl", "summary.json", "boxes.csv", "masks.csv", "masks")
    }


def test_other_settings_are_refused_until_overwritten(model: DualBranch, dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(model, dataset, out, "yolo")
    (out / "mine.txt").write_text("a word of the user")
    with pytest.raises(CheckpointError, match=r"threshold was 0.2, now 0.5; .*--overwrite"):
        run(model, dataset, out, threshold=0.5)
    run(model, dataset, out, threshold=0.5, overwrite=True)
    assert {path.name for path in out.iterdir()} == {
        *("annotate.json", "annotations.jsonl", "summary.json", "annotations.json", "mine.txt")
    }


def test_files_of_others_are_never_touched(model: DualBranch, dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "labels").mkdir(parents=True)
    (out / "labels" / "plain.txt").write_text("0 0.5 0.5 1 1\n")
    for overwrite in (False, True):
        with pytest.raises(CheckpointError, match="holds labels, which no run of annotate has written"):
            run(model, dataset, out, "yolo", overwrite=overwrite)
    run(model, dataset, out, "csv")
    with pytest.raises(CheckpointError, match="holds labels"):
        run(model, dataset, out, "yolo")
    assert (out / "labels" / "plain.txt").read_text() == "0 0.5 0.5 1 1\n"


def test_names_start_at_the_root(model: DualBranch, dataset: Dataset, tmp_path: Path) -> None:
    photos = [str(dataset.root / "plain.png")]
    file = run(model, photos, tmp_path / "out", "csv").file
    assert rows(file)[0]["path"] == photos[0]
    assert rows(run(model, photos, tmp_path / "out", "csv", root=tmp_path).file)[0]["path"] == "album/plain.png"
    with pytest.raises(ChoiceError, match="does not lie below --root"):
        run(model, photos, tmp_path / "out", root=tmp_path / "elsewhere")


def test_classes_have_to_be_the_models(model: DualBranch, dataset: Dataset, tmp_path: Path) -> None:
    other = Dataset(dataset.root, "all", dataset.paths, dataset.labels * 0, 1, ("heron",))
    with pytest.raises(DataError, match=r"--fit-head linear.*--classes top1"):
        run(model, other, tmp_path / "out")
    assert run(model, other, tmp_path / "out", classes=("top1",)).photos == 6
    with pytest.raises(ChoiceError, match="labels needs one dataset folder"):
        run(model, ["a.png"], tmp_path / "out", classes=("labels",))
    with pytest.raises(ClassNotFound, match="no class is called"):
        run(model, dataset, tmp_path / "out", classes=("heron",))


def test_classes_match_by_name_or_by_order(model: DualBranch, dataset: Dataset) -> None:
    def match(count: int, names: tuple[str, ...] | None) -> tuple[list[int], str | None]:
        indices, told = match_classes(model, Dataset(dataset.root, "all", (), dataset.labels[:0], count, names))
        return indices.tolist(), told

    assert match(2, ("Nothing", "copper")) == ([4, 0], None)
    assert match(5, NAMES) == ([0, 1, 2, 3, 4], None)
    assert match(3, None) == ([0, 1, 2], None)
    indices, told = match(5, ("a", "b", "c", "d", "e"))
    assert indices == [0, 1, 2, 3, 4] and told == "classes are matched by their order: a = copper, e = nothing"
    with pytest.raises(DataError, match="1 of them are no class of the model, or several: crane; train"):
        match(2, ("crane", "copper"))
    with pytest.raises(DataError, match="has 6 classes, the model 5"):
        match(6, None)


@pytest.mark.parametrize("form", ["coco", "csv", "masks", "voc", "yolo"])
def test_a_name_that_is_no_utf8(model: DualBranch, tmp_path: Path, form: str) -> None:
    photo = tmp_path / "album" / os.fsdecode(b"caf\xe9.png")
    try:
        picture(photo, 0)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    out = tmp_path / "out"
    for _ in range(2):
        summary = run(model, [str(photo)], out, form, classes=("0",))
        assert (summary.photos, summary.boxes) == (1, 1)
        assert summary.file.exists()
    if form == "yolo":
        assert [path.resolve() for path in (out / "images").iterdir()] == [photo]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 1.0}, "threshold"),
        ({"min_score": 2.0}, "probability"),
        ({"max_megapixels": 0.0}, "max-megapixels"),
        ({"boxes": "some"}, "boxes"),
        ({"sign": "negative"}, "sign"),
        ({"form": "tfrecord"}, "'coco', 'csv', 'masks', 'voc', 'yolo'"),
    ],
)
def test_settings_are_checked(
    model: DualBranch, dataset: Dataset, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ChoiceError, match=message):
        run(model, dataset, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_every_format_names_itself_as_its_file() -> None:
    for name, module in formats.formats().items():
        assert module.__name__.endswith(f".{name}") and module.OUTPUTS and module.__doc__
        assert name in (Path(__file__).parents[1] / "docs" / "annotate.md").read_text(encoding="utf-8")
