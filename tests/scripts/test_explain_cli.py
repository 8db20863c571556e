"""`dualcam explain`: real runs."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import dualcam
from dualcam import DualBranch, explain_photos
from dualcam.cli import explain as command
from dualcam.cli.main import run
from dualcam.results import ClassRecord, PhotoRecord
from tests.photos_on_disk import write_noise
from tests.programs import kill_after_lines, loads_for_help, program, read_lines

MODEL = "builtin:efficientnet-lite0"
Run = Callable[..., int]


@pytest.fixture(scope="module")
def model() -> DualBranch:
    return dualcam.wrap(MODEL)


@pytest.fixture
def explain(model: DualBranch, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command, with a model that is loaded once for all tests."""
    monkeypatch.setattr(command, "open_model", lambda _: model)
    return lambda *arguments: run(["explain", *map(str, arguments)])


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "my photos"
    for seed, name in enumerate(("one.jpg", "two ü.png", "three/one.jpg")):
        write_noise(folder / name, seed)
    return folder


def lines(out: Path) -> list[dict[str, Any]]:
    return read_lines(out / "results.jsonl")


def panels(out: Path) -> dict[str, bytes]:
    return {item["photo"]: (out / item["panel"]).read_bytes() for item in lines(out) if item["panel"]}


def test_panels_and_lines(explain: Run, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert explain(album, "-o", out) == 0
    assert "3 of 3 photos explained" in capsys.readouterr().out
    records = lines(out)
    assert [item["photo"] for item in records] == [
        str(album / name) for name in ("one.jpg", "two ü.png", "three/one.jpg")
    ]
    for item in records:
        assert item.keys() == PhotoRecord.__annotations__.keys()
        assert (item["error"], item["width"], item["height"]) == (None, 48, 64)
        with Image.open(out / item["panel"]) as panel:
            assert panel.format == "PNG" and panel.width > 4 * 210
        assert len(item["classes"]) == 3
        probabilities = [one["probability"] for one in item["classes"]]
        assert probabilities == sorted(probabilities, reverse=True)
        for one in item["classes"]:
            assert one.keys() == ClassRecord.__annotations__.keys()
            for x0, y0, x1, y1, score in one["boxes"]:
                assert 0 <= x0 < x1 <= 48 and 0 <= y0 < y1 <= 64 and 0 < score <= 1
    assert len({item["panel"] for item in records}) == 3
    assert sorted(path.name for path in out.iterdir()) == ["panels", "results.jsonl", "run.json"]
    description = json.loads((out / "run.json").read_text())
    assert description["results_version"] == 1
    assert description["model"]["source"] == MODEL
    assert description["settings"]["threshold"] == 0.2


def test_lines_say_what_the_library_says(explain: Run, model: DualBranch, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = (
        "--method",
        "layer-cam",
        "--branch",
        "softmax",
        "--fit",
        "pad",
        "--threshold",
        "0.4",
        "--batch-size",
        "1",
    )
    assert explain(album / "one.jpg", "-o", out, "--classes", "tabby,7", *options) == 0
    made = model.explain(album / "one.jpg", ["tabby", 7], method="layer-cam", branch="softmax", fit="pad")[0]
    for item, evidence in zip(lines(out)[0]["classes"], made, strict=True):
        assert (item["index"], item["name"]) == (evidence.index, evidence.name)
        for key in ("probability", "softmax_logit", "sigmoid_logit"):
            assert item[key] == pytest.approx(getattr(evidence, key), rel=1e-4)
        boxes = [[box.x0, box.y0, box.x1, box.y1] for box in evidence.boxes(0.4)]
        assert [box[:4] for box in item["boxes"]] == boxes


def test_boxes_come_back_to_the_upright_photo(explain: Run, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(write_noise(tmp_path / "a.png", size=(90, 40))) as image:
        image.save(tmp_path / "turned.png", exif=exif)
    assert explain(tmp_path / "turned.png", "-o", tmp_path / "out") == 0
    item = lines(tmp_path / "out")[0]
    assert (item["width"], item["height"]) == (40, 90)
    assert all(box[2] <= 40 and box[3] <= 90 for one in item["classes"] for box in one["boxes"])


@pytest.mark.parametrize("workers", [0, 3])
def test_broken_photos_are_reported_and_skipped(
    explain: Run, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    out = tmp_path / "out"
    (album / "empty.jpg").write_bytes(b"")
    (album / "text.png").write_text("no picture")
    whole = (album / "one.jpg").read_bytes()
    (album / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    Image.new("L", (400, 300)).save(album / "large.png")
    arguments = (album, "-o", out, "--workers", workers, "--max-megapixels", "0.1", "--classes", "top1")
    assert explain(*arguments) == 1
    said = capsys.readouterr()
    assert "3 of 7 photos explained" in said.out
    broken = {Path(item["photo"]).name: item for item in lines(out) if item["error"]}
    assert sorted(broken) == ["cut.jpg", "empty.jpg", "large.png", "text.png"]
    for name, item in broken.items():
        assert f"skipped: {item['error']}" in said.err
        assert name in item["error"]
        assert (item["panel"], item["classes"]) == (None, [])
    assert (broken["empty.jpg"]["width"], broken["empty.jpg"]["height"]) == (None, None)
    assert (broken["large.png"]["width"], broken["large.png"]["height"]) == (400, 300)
    write_noise(album / "empty.jpg", 9)
    assert explain(*arguments) == 1
    assert sum(item["error"] is None for item in lines(out)) == 4
    assert len(lines(out)) == 7


def test_the_same_command_again_does_nothing_twice(explain: Run, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert explain(album, "-o", out, "--classes", "top1") == 0
    before = (out / "results.jsonl").read_bytes()
    times = {path: path.stat().st_mtime_ns for path in (out / "panels").iterdir()}
    assert explain(album, "-o", out, "--classes", "top1", "--batch-size", "2", "--workers", "0") == 0
    assert (out / "results.jsonl").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in (out / "panels").iterdir()} == times


@pytest.mark.parametrize("shared", [(), ("--shared-scale",)])
@pytest.mark.parametrize("torn", [b"", b'{"photo": "/x'])
def test_an_interrupted_run_continues(
    explain: Run, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: tuple[str, ...], torn: bytes
) -> None:
    arguments = (album, "--classes", "top1", "--batch-size", "1", *shared, "-o")
    assert explain(*arguments, tmp_path / "whole") == 0
    out, finished = tmp_path / "out", 0
    name = "save_sheet" if shared else "write_panel"
    original = getattr(explain_photos, name)

    def stop(*given: Any) -> None:
        nonlocal finished
        if finished == 2:
            raise KeyboardInterrupt
        finished += 1
        original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(f"dualcam.explain_photos.{name}", stop)
        assert explain(*arguments, out) == 130
    with (out / "results.jsonl").open("ab") as stream:
        stream.write(torn)
    assert explain(*arguments, out) == 0
    assert sorted(lines(out), key=str) == sorted(lines(tmp_path / "whole"), key=str)
    assert panels(out) == panels(tmp_path / "whole")


def test_other_settings_are_refused_until_overwritten(
    explain: Run, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert explain(album / "one.jpg", "-o", out, "--classes", "top1") == 0
    assert explain(album / "one.jpg", "-o", out, "--classes", "top2", "--sign", "negative") == 2
    error = capsys.readouterr().err
    assert "classes was ['top1'], now ['top2']" in error and "sign was" in error and "--overwrite" in error
    assert explain(album / "one.jpg", "-o", out, "--classes", "top2", "--overwrite") == 0
    assert [len(item["classes"]) for item in lines(out)] == [2]


def test_photos_can_be_added(explain: Run, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    monkeypatch.chdir(album)
    assert explain("one.jpg", "-o", out, "--classes", "top1") == 0
    monkeypatch.chdir(tmp_path)
    assert explain("my photos/*.*", "-o", out, "--classes", "top1") == 0
    assert [item["photo"] for item in lines(out)] == ["one.jpg", str(album / "two ü.png")]


def test_shared_scale(explain: Run, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--classes", "top1", "--shared-scale", "-o")
    assert explain(album / "one.jpg", *arguments, out) == 0
    first, scale = panels(out), json.loads((out / "run.json").read_text())["scale"]
    assert scale.keys() == {"softmax cam signed", "sigmoid cam positive", "signed"}
    assert explain(album, *arguments, out) == 0
    larger = json.loads((out / "run.json").read_text())["scale"]
    assert all(larger[key] >= scale[key] for key in scale) and larger != scale
    assert len(lines(out)) == 3
    assert panels(out)[str(album / "one.jpg")] != first[str(album / "one.jpg")]
    assert explain(album, *arguments, tmp_path / "at once") == 0
    assert panels(tmp_path / "at once") == panels(out)


def test_compare_adds_rows(explain: Run, album: Path, tmp_path: Path) -> None:
    heights = []
    for name, flags in (("plain", ()), ("compared", ("--compare",))):
        assert explain(album / "one.jpg", "-o", tmp_path / name, "--classes", "top1", *flags) == 0
        with Image.open(tmp_path / name / "panels" / "one.png") as panel:
            heights.append(panel.height)
    assert heights[1] > 2 * heights[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone.jpg",), "no photo matches 'gone.jpg'"),
        (("*.nothing",), "no photo matches '*.nothing'"),
        ((), "no photos given"),
        (("PHOTO", "--classes", "no such class"), "no class is called 'no such class'"),
        (("PHOTO", "--classes", "tab by"), "near names: tabby"),
        (("PHOTO", "--classes", "1000"), "classes 0..999"),
        (("PHOTO", "--classes", ","), "classes is empty"),
        (("PHOTO", "--method", "magic"), "choose one of"),
        (("PHOTO", "--sign", "both"), "sign"),
        (("PHOTO", "--score", "finer", "--gamma", "-1"), "gamma must lie in [0, inf]"),
        (("PHOTO", "--similar", "2"), "similar=2 is not read by method 'cam' and score 'logit'"),
        (("PHOTO", "--threshold", "1"), "[0, 1)"),
        (("PHOTO", "--batch-size", "0"), "at least 1"),
        (("PHOTO", "--workers", "-1"), "at least 0"),
        (("PHOTO", "--max-megapixels", "0"), "above 0"),
        (("PHOTO", "--shared-scale", "--normalize", "ivr"), "choose one of them"),
        (("PHOTO", "--no-such-option"), "--no-such-option"),
    ],
)
def test_mistakes(
    explain: Run,
    album: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    given = [str(album / "one.jpg") if item == "PHOTO" else item for item in arguments]
    assert explain(*given, "-o", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert message in " ".join((said.out + said.err).replace("│", " ").split())
    assert "Traceback" not in said.err
    assert not (tmp_path / "out").exists()


def test_out_is_required(explain: Run, album: Path) -> None:
    assert explain(album) == 2


def test_results_that_can_not_be_written(
    explain: Run, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert explain(album, "-o", tmp_path / "file") == 2
    assert explain(album, "-o", tmp_path / "file" / "below") == 2
    error = capsys.readouterr().err
    assert "is a file" in error and "can not be written" in error


def test_a_full_disk_leaves_whole_files(
    explain: Run, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(data[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert explain(album, "-o", tmp_path / "out", "--classes", "top1") == 2
    assert "No space left" in capsys.readouterr().err
    assert lines(tmp_path / "out") == [] and list((tmp_path / "out" / "panels").iterdir()) == []
    assert explain(album, "-o", tmp_path / "out", "--classes", "top1") == 0


def test_the_model_is_not_changed(explain: Run, model: DualBranch, album: Path, tmp_path: Path) -> None:
    hooks = [len(module._forward_hooks) for module in model.modules()]
    assert explain(album, "-o", tmp_path / "out", "--compare") == 0
    assert hooks == [len(module._forward_hooks) for module in model.modules()]
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.slow
def test_help_loads_nothing_heavy() -> None:
    said, loaded = loads_for_help("explain", {"torch", "torchvision", "timm", "cv2", "matplotlib"})
    assert "--shared-scale" in said
    assert not loaded


@pytest.mark.slow
def test_a_killed_run_continues(tmp_path: Path) -> None:
    for seed in range(60):
        write_noise(tmp_path / "photos" / f"{seed:02}.png", seed, (300, 200))
    out = tmp_path / "out"
    arguments = program(
        "explain", tmp_path / "photos", "-o", out, "--model", MODEL, "--classes", "top1", "--batch-size", "2"
    )
    before = kill_after_lines(arguments, out / "results.jsonl", 5)
    with (out / "results.jsonl").open("ab") as stream:
        stream.write(before[:40])
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "60 of 60 photos explained" in done.stdout
    after = (out / "results.jsonl").read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1]), "finished photos are not explained again"
    records = lines(out)
    assert len({item["photo"] for item in records}) == len(records) == 60
    assert {path.name for path in (out / "panels").glob("*.png")} == {Path(item["panel"]).name for item in records}


def test_an_optimized_copy_says_what_was_done(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, options in (("plain", []), ("fast", ["--optimize"])):
        assert run(["explain", str(album), "-o", str(tmp_path / name), "-m", MODEL, *options]) == 0
        told = capsys.readouterr().err
        assert ("batch norms are part of the convolutions" in told) == ("logits differ by" in told) == bool(options)
    for one, other in zip(lines(tmp_path / "plain"), lines(tmp_path / "fast"), strict=True):
        assert [item["index"] for item in one["classes"]] == [item["index"] for item in other["classes"]]
        for ours, theirs in zip(one["classes"], other["classes"], strict=True):
            assert 0 <= abs(ours["softmax_logit"] - theirs["softmax_logit"]) < 1e-4
            assert 0 <= abs(ours["sigmoid_logit"] - theirs["sigmoid_logit"]) < 1e-4
