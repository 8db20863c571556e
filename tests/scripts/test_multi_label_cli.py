"""Several labels a photo, from the annotations to maps, boxes and figures, as a user runs it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualcam.cli.main import run

SIDE, BLOB = 96, 40
COLORS = {"red": (230, 40, 40), "green": (40, 220, 60), "blue": (50, 60, 235)}
Objects = list[tuple[str, list[int]]]


def write_picture(path: Path, names: list[str], generator: np.random.Generator) -> Objects:
    """Write colored squares, far apart, on gray noise; return (name, [x, y, width, height]) of each."""
    pixels = generator.integers(90, 130, size=(SIDE, SIDE, 3)).astype(np.uint8)
    places = generator.permutation(4)[: len(names)]
    objects: Objects = []
    for name, place in zip(names, places, strict=True):
        x, y = (4 + 48 * int(place % 2), 4 + 48 * int(place // 2))
        pixels[y : y + BLOB, x : x + BLOB] = COLORS[name]
        objects.append((name, [x, y, BLOB, BLOB]))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return objects


def write_coco(root: Path, split: str, count: int, seed: int) -> dict[str, Objects]:
    """Write photos of one to three objects as COCO has them; return the objects of each."""
    generator = np.random.default_rng(seed)
    found: dict[str, Objects] = {}
    for number in range(count):
        names = generator.permutation(list(COLORS))[: 1 + number % 3].tolist()
        found[f"{number:03d}.png"] = write_picture(root / split / f"{number:03d}.png", names, generator)
    ids = {name: place + 1 for place, name in enumerate(COLORS)}
    pairs = [(place, name, box) for place, objects in enumerate(found.values()) for name, box in objects]
    content: dict[str, Any] = {
        "images": [{"id": n, "file_name": name, "width": SIDE, "height": SIDE} for n, name in enumerate(found)],
        "categories": [{"id": ids[name], "name": name} for name in COLORS],
        "annotations": [
            {"id": n, "image_id": photo, "category_id": ids[name], "bbox": box, "iscrowd": 0}
            for n, (photo, name, box) in enumerate(pairs)
        ],
    }
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return found


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUALCAM_CACHE", str(tmp_path / "cache"))
    write_coco(tmp_path / "data", "train", 30, seed=0)
    write_coco(tmp_path / "data", "val", 12, seed=1)
    return tmp_path / "data"


OPTIONS = ("--fit-head", "linear", "--balance", "frequency", "--augment", "none", "--solver", "lbfgs")


@pytest.mark.slow
def test_from_annotations_to_maps(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "branch"
    assert run(["train", str(data), "-o", str(out), "--multi-label", *OPTIONS]) == 0
    told = capsys.readouterr().err
    assert "60 labels of 30 photos, 2.00 each" in told and "mAP" in told
    manifest = json.loads((out / "dualcam.json").read_text())
    assert manifest["training"]["settings"]["multi_label"] is True
    assert manifest["training"]["last_epoch"]["val_branch_map"] > 0.9
    truth = write_coco(tmp_path / "again", "val", 12, seed=1)

    maps = tmp_path / "maps"
    photos = str(data / "val")
    assert run(["explain", photos, "-o", str(maps), "--model", str(out), "--classes", "over0.5"]) == 0
    records = [json.loads(line) for line in (maps / "results.jsonl").read_text().splitlines()]
    assert {len(record["classes"]) for record in records} >= {1, 2}
    right = sum(
        {one["name"] for one in record["classes"]} == {name for name, _ in truth[Path(record["photo"]).name]}
        for record in records
    )
    assert right >= 9, "labels over the threshold are the photo's labels"
    capsys.readouterr()
    assert run(["explain", photos, "-o", str(maps), "--model", str(out), "--classes", "over0.5"]) == 0
    assert run(["explain", photos, "-o", str(maps), "--model", str(out), "--classes", "over0.4"]) == 2
    assert "over0.4" in capsys.readouterr().err

    nothing = tmp_path / "nothing"
    options = ["--classes", "over1", "--compare", "--shared-scale"]
    assert run(["explain", photos, "-o", str(nothing), "--model", str(out), *options]) == 0
    records = [json.loads(line) for line in (nothing / "results.jsonl").read_text().splitlines()]
    assert all(record["classes"] == [] and (nothing / record["panel"]).is_file() for record in records)

    boxes = tmp_path / "boxes"
    assert run(["annotate", str(data), "-o", str(boxes), "--split", "val", "--model", str(out), "--multi-label"]) == 0
    content = json.loads((boxes / "annotations.json").read_text())
    names = {item["id"]: item["name"] for item in content["categories"]}
    files = {item["id"]: Path(item["file_name"]).name for item in content["images"]}
    for item in content["annotations"]:
        assert names[item["category_id"]] in {name for name, _ in truth[files[item["image_id"]]]}
    summary = json.loads((boxes / "summary.json").read_text())
    assert summary["true_boxes"]["all"]["judged"] == len(content["annotations"]) > 18
    over = tmp_path / "over"
    command = ["annotate", str(data), "-o", str(over), "--split", "val", "--model", str(out), "--classes", "over0.5"]
    assert run(command) == 0
    assert json.loads((over / "summary.json").read_text())["boxes"] > 12

    tables = tmp_path / "tables"
    command = ["evaluate", str(data), "-o", str(tables), "--model", str(out), "--multi-label", "--method", "cam"]
    assert run([*command, "--select", "none"]) == 0
    assert "24 photos reported" in capsys.readouterr().out, "12 photos of 24 labels: a map for each"
    assert json.loads((tables / "results.json").read_text())["photos"] == 12
    assert "n = 24 reported (labels of 12 photos, drawn photo by photo)" in (tables / "results.md").read_text()
    assert run([*command[:6], "--method", "cam", "--select", "none", "--overwrite"]) == 0
    assert "12 photos reported" in capsys.readouterr().out


@pytest.mark.slow
def test_without_the_flag_the_run_says_which_label_counts(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", str(data), "-o", str(tmp_path / "o"), *OPTIONS]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "20 of 30 photos" in told and "the one with the largest area counts" in told
    (data / "labels.csv").write_text("path,labels\ntrain/000.png,red;blue\ntrain/001.png,red\n")
    (data / "annotations").rename(tmp_path / "aside")
    assert run(["train", str(data), "-o", str(tmp_path / "p"), *OPTIONS]) == 2
    assert "train for all of them with --multi-label" in capsys.readouterr().err
    photo = str(data / "train" / "000.png")
    assert run(["explain", photo, "-o", str(tmp_path / "m"), "--model", "builtin:efficientnet-lite0"]) == 0
    command = ["explain", photo, "-o", str(tmp_path / "n"), "--model", "builtin:efficientnet-lite0"]
    assert run([*command, "--classes", "over0.5"]) == 2
    assert "a clone of the softmax head; train it" in capsys.readouterr().err


def test_a_study_trains_for_all_labels_and_judges_each(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--fit-head", "linear", "--seeds", "1", "--views", "1", "--epochs", "2", "--method", "cam"]
    options += ["--head", "softmax", "sigmoid", "--normalize", "max", "--fidelity", "none"]
    assert run(["ablate", str(data), "-o", str(tmp_path / "all"), "--multi-label", *options]) == 0
    assert "2 trained, 0 found" in capsys.readouterr().out
    assert run(["ablate", str(data), "-o", str(tmp_path / "main"), *options]) == 0
    assert "2 trained, 0 found" in capsys.readouterr().out, "branches for one label are others"
    photos = [json.loads((tmp_path / name / "ablation.json").read_text())["photos"] for name in ("all", "main")]
    assert photos == [24, 12], "twelve photos of one to three labels"
