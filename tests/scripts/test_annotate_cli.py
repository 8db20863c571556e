"""`dualcam annotate`: real runs."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dualcam
from dualcam import DualBranch
from dualcam.annotation.ledger import Ledger
from dualcam.cli import annotate as command
from dualcam.cli.main import run
from tests.conftest import ROOT
from tests.photos_on_disk import write_noise
from tests.programs import kill_after_lines, loads_for_help, program, read_lines

MODEL = "builtin:efficientnet-lite0"
Run = Callable[..., int]


@pytest.fixture(scope="module")
def model() -> DualBranch:
    return dualcam.wrap(MODEL)


@pytest.fixture
def annotate(model: DualBranch, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command, with a model that is loaded once for all tests."""
    monkeypatch.setattr(command, "open_model", lambda _: model)
    return lambda *arguments: run(["annotate", *map(str, arguments)])


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "my photos"
    for seed, name in enumerate(("one.jpg", "two ü.png", "three.jpg")):
        write_noise(folder / name, seed)
    return folder


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A dataset: one folder a class, with boxes of some photos."""
    root = tmp_path / "data"
    rows = ["path,name,x0,y0,x1,y1"]
    for seed, name in enumerate(("tabby/a.jpg", "tabby/b.jpg", "goldfish/a.jpg")):
        write_noise(root / name, seed)
        rows.append(f"{name},{name.split('/')[0]},0,0,48,{64 - 20 * seed}")
    (root / "boxes.csv").write_text("\n".join(rows))
    return root


def lines(out: Path) -> list[dict[str, Any]]:
    return read_lines(out / "annotations.jsonl")


def coco(out: Path) -> Any:
    return json.loads((out / "annotations.json").read_text(encoding="utf-8"))


def test_photos(annotate: Run, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert annotate(album, "-o", out) == 0
    said = capsys.readouterr().out
    assert "3 of 3 photos annotated" in said and "annotations.json" in said
    content = coco(out)
    assert [item["file_name"] for item in content["images"]] == [
        str(album / name) for name in ("one.jpg", "three.jpg", "two ü.png")
    ]
    assert len(content["categories"]) == len({item["name"] for item in content["categories"]}) == 1000
    assert json.loads((out / "summary.json").read_text())["true_boxes"] is None
    assert sorted(path.name for path in out.iterdir()) == [
        *("annotate.json", "annotations.json", "annotations.jsonl", "summary.json")
    ]


def test_labels_and_true_boxes(
    annotate: Run, model: DualBranch, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert annotate(labelled, "-o", out, "--format", "csv") == 0
    said = capsys.readouterr().out
    assert "IoU 0.5" in said and "centre 0.7" in said and "tabby" in said
    assert [item["classes"][0]["name"] for item in lines(out)] == ["tabby", "tabby", "goldfish"]
    evidence = model.explain(labelled / "tabby" / "a.jpg", "tabby")[0][0]
    first = lines(out)[0]["classes"][0]
    assert first["score"] == pytest.approx(evidence.probability, rel=1e-4)
    best = evidence.boxes()[0]
    assert first["regions"][0][0] == [best.x0, best.y0, best.x1, best.y1]
    assert (out / "boxes.csv").read_text().splitlines()[1].startswith("tabby/a.jpg,")
    assert json.loads((out / "summary.json").read_text())["true_boxes"]["all"]["photos"] == 3


def test_folders_that_are_no_classes(
    annotate: Run, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_noise(album / "holidays" / "four.jpg", 4)
    assert annotate(album, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "--fit-head linear" in error and "--classes top1" in error and "by a glob" in error
    assert annotate(album, "-o", tmp_path / "out", "--classes", "top1") == 0
    assert len(lines(tmp_path / "out")) == 4
    assert annotate(f"{album}/**/*.jpg", "-o", tmp_path / "globbed") == 0
    assert len(lines(tmp_path / "globbed")) == 3


def test_min_score(annotate: Run, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert annotate(album, "-o", out, "--classes", "top2") == 0
    scores = [item["score"] for item in coco(out)["annotations"]]
    limit = sorted(scores)[len(scores) // 2]
    assert annotate(album, "-o", out, "--classes", "top2", "--min-score", limit) == 0
    kept = coco(out)
    assert [item["score"] for item in kept["annotations"]] == [score for score in scores if score >= limit]
    assert len(kept["images"]) == 3


def test_broken_photos_are_reported_and_tried_again(
    annotate: Run, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (album / "empty.jpg").write_bytes(b"")
    (album / "text.png").write_text("no picture")
    assert annotate(album, "-o", out, "--format", "voc") == 1
    said = capsys.readouterr()
    assert "3 of 5 photos annotated" in said.out and "skipped: " in said.err and "empty.jpg" in said.err
    assert len(list((out / "Annotations").iterdir())) == 3
    write_noise(album / "empty.jpg", 9)
    assert annotate(album, "-o", out, "--format", "voc") == 1
    assert [item["error"] is None for item in lines(out)] == [True, True, True, True, False]
    assert len(list((out / "Annotations").iterdir())) == 4


@pytest.mark.parametrize("torn", [b"", b'{"photo": "/x'])
def test_an_interrupted_run_continues(
    annotate: Run, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bytes
) -> None:
    arguments = (album, "--batch-size", "1", "-o")
    assert annotate(*arguments, tmp_path / "whole") == 0
    out, finished, original = tmp_path / "out", 0, Ledger.add

    def stop(*given: Any, **named: Any) -> None:
        nonlocal finished
        if finished == 2:
            raise KeyboardInterrupt
        finished += 1
        original(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add", stop)
        assert annotate(*arguments, out) == 130
    assert not (out / "annotations.json").exists()
    with (out / "annotations.jsonl").open("ab") as stream:
        stream.write(torn)
    assert annotate(*arguments, out) == 0
    assert (out / "annotations.json").read_bytes() == (tmp_path / "whole" / "annotations.json").read_bytes()


def test_another_folder_to_start_from(
    annotate: Run, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.chdir(album)
    assert annotate("one.jpg", "-o", out, "--format", "yolo") == 0
    monkeypatch.chdir(tmp_path)
    assert annotate("my photos/*.jpg", "-o", out, "--format", "yolo") == 0
    assert [item["photo"] for item in lines(out)] == ["one.jpg", str(album / "three.jpg")]
    assert (out / "images" / "one.jpg").resolve() == (album / "one.jpg").resolve()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone.jpg",), "no photo matches 'gone.jpg'"),
        ((), "no photos given"),
        (("PHOTO", "--format", "tfrecord"), "choose one of 'coco'"),
        (("PHOTO", "--classes", "labels"), "needs one dataset folder"),
        (("PHOTO", "--classes", "no such class"), "no class is called"),
        (("PHOTO", "--split", "test"), "needs one dataset folder"),
        (("PHOTO", "--threshold", "1"), "[0, 1)"),
        (("PHOTO", "--min-score", "7"), "[0, 1]"),
        (("PHOTO", "--root", "elsewhere"), "does not lie below --root"),
        (("PHOTO", "--workers", "-1"), "at least 0"),
        (("PHOTO", "--method", "magic"), "choose one of"),
        (("PHOTO", "--sign", "negative"), "sign"),
    ],
)
def test_mistakes(
    annotate: Run,
    album: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    given = [str(album / "one.jpg") if item == "PHOTO" else item for item in arguments]
    assert annotate(*given, "-o", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert message in said.err + said.out
    assert not (tmp_path / "out").exists()


def test_an_output_that_can_not_be_written(
    annotate: Run, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert annotate(album, "-o", tmp_path / "file") == 2
    assert "is a file; expected a directory" in capsys.readouterr().err
    assert annotate(album, "-o", tmp_path / "file" / "below") == 2
    assert "can not be written" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(annotate: Run, album: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert annotate(album, "-o", tmp_path / "locked" / "out") == 2


def test_a_full_disk_leaves_no_half_file(
    annotate: Run, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert annotate(album / "one.jpg", "-o", out) == 0
    before = (out / "annotations.json").read_bytes()

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dualcam.annotation.formats.coco._images", full)
    assert annotate(album / "one.jpg", "-o", out) == 2
    assert "No space left" in capsys.readouterr().err
    assert (out / "annotations.json").read_bytes() == before
    assert not list(out.glob(".*"))


@pytest.mark.slow
def test_help_loads_nothing_heavy() -> None:
    said, loaded = loads_for_help("annotate", {"torch", "numpy", "cv2"})
    assert "--min-score" in said
    assert not loaded


@pytest.mark.slow
def test_a_killed_run_continues(tmp_path: Path) -> None:
    for seed in range(60):
        write_noise(tmp_path / "photos" / f"{seed:02}.png", seed, (300, 200))
    out = tmp_path / "out"
    arguments = program("annotate", tmp_path / "photos", "-o", out, "--model", MODEL, "--batch-size", "2")
    before = kill_after_lines(arguments, out / "annotations.jsonl", 5)
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "60 of 60 photos annotated" in done.stdout
    after = (out / "annotations.jsonl").read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1]), "finished photos are not annotated again"
    assert len({item["photo"] for item in lines(out)}) == len(lines(out)) == 60
    assert len(coco(out)["images"]) == 60


def test_the_commands_of_the_docs_run(
    annotate: Run, labelled: Path, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    album.rename(tmp_path / "photos")
    text = (ROOT / "docs" / "annotate.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    dualcam annotate (.*)", text, flags=re.MULTILINE)
    assert len(commands) == 3
    for line in commands:
        assert annotate(*shlex.split(line)) == 0, line
    assert (tmp_path / "annotations" / "labels").is_dir() and coco(tmp_path / "annotations")["categories"]
