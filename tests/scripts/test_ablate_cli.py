"""`dualcam ablate`: real runs on a tiny dataset."""

import json
from pathlib import Path

import pytest
from PIL import Image

from dualcam.cli.main import run
from tests.generators import wsol
from tests.photos_on_disk import write_boxed

STUDY = [
    "--fit-head",
    "linear",
    "--seeds",
    "2",
    "--views",
    "1",
    "--epochs",
    "1",
    "--method",
    "cam",
    "--fidelity",
    "none",
]
HEADS = ["--head", "softmax", "sigmoid"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALCAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_boxed(tmp_path / "data", 3, train=4)
    return tmp_path / "data"


def test_tables_and_a_second_run_that_trains_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["ablate", str(data), "-o", str(out), *STUDY, *HEADS]
    assert run(command) == 0
    first = capsys.readouterr().out
    assert "4 trained, 0 found" in first
    assert "clamp: signed → positive" in first
    assert "centre box" in first
    result = json.loads((out / "ablation.json").read_text(encoding="utf-8"))
    assert (result["photos"], result["seeds"], result["broken"]) == (6, 2, 0)
    assert {(item["head"], item["sign"], item["normalization"]) for item in result["values"]} == {
        (head, sign, how) for head in HEADS[1:] for sign in ("signed", "positive") for how in ("minmax", "max", "ivr")
    }
    assert "anew for each seed; trained on 9 other photos" in result["selection"]
    assert run(command) == 0
    second = capsys.readouterr().out
    assert "0 trained, 4 found" in second
    assert json.loads((out / "ablation.json").read_text(encoding="utf-8"))["effects"] == result["effects"]
    assert (out / "ablation.md").read_text(encoding="utf-8").startswith("`dualcam")


@pytest.mark.slow
def test_fidelity_and_what_full_adds(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--fit-head", "linear", "--seeds", "1", "--views", "1", "--method", "cam", "--head", "softmax"]
    options += ["--normalize", "max", "--optimize"]
    assert run(["ablate", str(data), "-o", str(tmp_path / "out"), *options]) == 0
    assert "Average Gain" in capsys.readouterr().out
    options += ["--full", "--sample", "1", "--sign", "positive"]
    assert run(["ablate", str(data), "-o", str(tmp_path / "full"), *options]) == 0
    text = (tmp_path / "full" / "ablation.md").read_text(encoding="utf-8")
    assert "ROAD 1" in text
    (item,) = json.loads((tmp_path / "full" / "ablation.json").read_text(encoding="utf-8"))["values"]
    names = {"Average Drop", "Average Gain", "Increase in Confidence", "Insertion AUC", "Deletion AUC", "ROAD"}
    assert names | {"Max-sensitivity"} <= set(item["metrics"])


def test_a_broken_photo_is_named_and_costs_itself(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "test" / "1" / "5.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    assert run(["ablate", str(data), "-o", str(out), *STUDY, *HEADS]) == 1
    assert "5.png" in capsys.readouterr().err
    result = json.loads((out / "ablation.json").read_text(encoding="utf-8"))
    assert (result["photos"], result["broken"]) == (5, 1)
    assert list(result["errors"]) == [str(data / "test" / "1" / "5.png")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--head", "sigmod"], "sigmoid-random"),
        (["--seeds", "0"], "seeds"),
        (["--threshold", "2"], "--threshold"),
        (["--normalize", "mean"], "minmax"),
        (["--views", "0"], "views"),
        (["--train-split", "test"], "--train DATA2"),
        (["--train", "nowhere"], "nowhere"),
        (["--batch-size", "0"], "batch size"),
        (["--fidelity", "avg-drop"], "average-drop"),
        (["--sample", "0"], "sample"),
    ],
)
def test_mistakes_are_named(
    data: Path, tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ablate", str(data), "-o", str(tmp_path / "out"), "--fit-head", "linear", *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_data_without_a_train_split_needs_other_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wsol.write(tmp_path / "data", "ILSVRC", splits=("val",))
    assert run(["ablate", str(tmp_path / "data"), "-o", str(tmp_path / "out")]) == 2
    assert "--train DATA2" in capsys.readouterr().err


def test_another_grid_needs_another_folder(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["ablate", str(data), "-o", str(tmp_path / "out"), *STUDY, "--head", "softmax"]
    assert run(command) == 0
    assert run([*command, "--sign", "signed"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*command, "--sign", "signed", "--overwrite"]) == 0


def test_photos_of_another_dataset_train(data: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "other", tmp_path / "out"
    for label in range(3):
        for number in range(2):
            (other / str(label)).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), (80 * label, 90, 40 * number)).save(other / str(label) / f"{number}.png")
    assert run(["ablate", str(data), "-o", str(out), *STUDY, *HEADS, "--train", str(other), "--select", "none"]) == 0
    assert "trained on 6 other photos" in json.loads((out / "ablation.json").read_text(encoding="utf-8"))["selection"]
