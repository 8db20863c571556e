"""`dualcam diagnose`: real runs, its files, its exit codes."""

import json
from pathlib import Path

import pytest
import torch

from dualcam.checkpoint import fingerprint
from dualcam.cli.diagnose import split_model
from dualcam.cli.main import run
from dualcam.cli.options import ModelOptions, open_model
from tests.photos_on_disk import write_folder, write_squares

QUICK = ["--draws", "1", "--views", "1", "--sizes", "0.5"]


def test_the_first_word_is_a_model_only_if_it_names_one(tmp_path: Path) -> None:
    plain = ModelOptions()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "dualcam.json").write_text("{}", encoding="utf-8")
    checkpoint, folder = str(tmp_path / "run"), str(tmp_path)
    assert split_model(plain, ()) == (plain, ())
    assert split_model(plain, ("timm:resnet18", "a.jpg")) == (ModelOptions(model="timm:resnet18"), ("a.jpg",))
    assert split_model(plain, (checkpoint,)) == (ModelOptions(model=checkpoint), ())
    assert split_model(plain, (folder, "a.jpg")) == (plain, (folder, "a.jpg"))
    assert split_model(plain, ("a.jpg",)) == (plain, ("a.jpg",))
    named = ModelOptions(model="timm:resnet18")
    assert split_model(named, (checkpoint, "b.jpg")) == (named, (checkpoint, "b.jpg"))


def test_random_weights_are_the_same_each_time() -> None:
    options = ModelOptions(model="timm:test_resnet", weights="random", device="cpu")
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = open_model(options)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(3)
    assert fingerprint(first) == fingerprint(open_model(options))


@pytest.mark.slow
def test_the_default_model_on_the_demo_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["diagnose", "-o", str(out), "--fail-above", "0.01"]) == 0
    text = capsys.readouterr().out
    assert "Practically no offset: the mean row is 0.58 % of a row's norm" in text
    assert {path.name for path in out.iterdir()} == {"diagnosis.json", "figure1.png", "index.html"}
    record = json.loads((out / "diagnosis.json").read_text(encoding="utf-8"))
    assert record["schema"] == 1
    assert record["model"]["source"] == "builtin:efficientnet-lite0"
    assert (record["photos"], record["classes"], record["row_length"]) == (5, 1000, 1280)
    assert record["mean_row"] == pytest.approx(0.0058, abs=1e-4)
    assert record["arbitrary"]["mean"] < 1e-3
    assert record["recovery"]["rank"] <= 20 < record["recovery"]["dimensions"]
    left = {(each["solver"], each["start"]): each for each in record["recovery"]["left"]}
    assert left["sgd", "shifted 1"]["scores"] > 0.5
    assert left["lbfgs", "shifted 1"]["scores"] < 1e-3
    assert record["recovery"]["cross_entropy_kept"] == pytest.approx(1, abs=1e-9)
    assert record["collapse"]["map_left"] == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
def test_a_random_model_by_position_and_a_broken_photo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path / "photos", {"a": 2, "b": 1})
    (tmp_path / "photos" / "a" / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    given = ["diagnose", "torchvision:shufflenet_v2_x0_5", str(tmp_path / "photos"), "--weights", "random"]
    assert run([*given, "-o", str(out), *QUICK]) == 1
    assert "bad.png" in capsys.readouterr().err
    record = json.loads((out / "diagnosis.json").read_text(encoding="utf-8"))
    assert record["photos"] == 3
    assert "not the model's" in record["labels"]
    assert len(record["broken"]) == 1
    (tmp_path / "photos" / "a" / "bad.png").unlink()
    assert run([*given, "-o", str(out), *QUICK, "--fail-above", "1"]) == 0
    assert run([*given, "-o", str(out), *QUICK, "--fail-above", "0"]) == 3
    assert "--fail-above" in capsys.readouterr().err


@pytest.mark.slow
def test_a_vision_transformer(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {"a": 2, "b": 2})
    given = ["diagnose", "timm:test_vit", str(tmp_path / "photos"), "--weights", "random", "--views", "2"]
    assert run([*given, "-o", str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out" / "diagnosis.json").read_text(encoding="utf-8"))
    assert (record["model"]["head"], record["method"], record["row_length"]) == ("tail", "grad-cam", 64)
    assert max(each["probability_change"] for each in record["shifts"]) < 1e-12
    assert record["shifts"][-1]["agreement"]["rank"]["mean"] < record["shifts"][0]["agreement"]["rank"]["mean"] < 1
    assert (record["collapse"]["law"], record["collapse"]["map_left"]) == ("whole row", pytest.approx(0, abs=1e-5))
    assert record["localization"] is None


@pytest.mark.slow
def test_a_dataset_with_boxes_gets_a_localization_figure(tmp_path: Path) -> None:
    root = write_squares(tmp_path / "data", 3)
    assert run(["diagnose", str(root), "-o", str(tmp_path / "out"), *QUICK, "--sample", "2"]) == 0
    record = json.loads((tmp_path / "out" / "diagnosis.json").read_text(encoding="utf-8"))
    assert (record["photos"], record["found"]) == (2, 3)
    assert {each["signed"]["n"] for each in record["localization"]} == {2}
    assert "Localization" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fail-above", "2"], "share in [0, 1]"),
        (["--sizes", "0"], "--sizes"),
        (["--draws", "0"], "--draws"),
        (["--threshold", "1"], "--threshold"),
        (["--sample", "0"], "--sample"),
        (["--method", "camm"], "grad-cam"),
        (["timm:no_such_model"], "no_such_model"),
        (["no-such-photo.jpg"], "no photo matches"),
        (["--split", "test"], "--split"),
        (["timm:test_vit", "--weights", "random", "--outputs", "sigmoid"], "sigmoids, one for each label"),
    ],
)
def test_mistakes_are_named(options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diagnose", *options, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
