"""`dualcam evaluate` and `dualcam figure`: real runs on a tiny dataset."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualcam.cli.main import run
from tests.photos_on_disk import write_squares

GRID = ["--method", "cam", "grad-cam", "--branch", "softmax", "sigmoid", "--normalize", "minmax", "max"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight photos with a bright square each, its box and mask; classes are ImageNet indices in WSOL metadata."""
    return write_squares(tmp_path / "data", 8)


def test_a_table_and_its_files(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["evaluate", str(data), "-o", str(out), *GRID, "--batch-size", "3"]) == 0
    text = capsys.readouterr().out
    assert "cam = grad-cam" in text
    assert "centre box" in text
    result = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert (result["n"], result["choosing"], result["broken"]) == (4, 4, 0)
    assert len(result["cells"]) == 2 * 2 * 2
    rows = list(csv.DictReader((out / "results.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["metric"] for row in rows} >= {"MaxBoxAccV2", "Top-1 Loc", "pointing"}
    assert len(rows) == 2 * 2 * 2 * 2 * len({row["metric"] for row in rows})
    assert (out / "results.md").read_text(encoding="utf-8").startswith("`dualcam")


def test_reference_mode_views_and_refinement(data: Path, tmp_path: Path) -> None:
    options = ["--size", "64", "--flip", "--scales", "1.5", "--refine", "--mode", "reference", "--select", "none"]
    assert run(["evaluate", str(data), "-o", str(tmp_path / "out"), *GRID, *options]) == 0
    result = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert result["n"] == result["choosing"] == 8
    assert "maximum over" in result["selection"]


def test_a_broken_photo_is_counted(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "val" / "03.png").write_bytes(b"not a picture")
    assert run(["evaluate", str(data), "-o", str(tmp_path / "out"), *GRID]) == 1
    result = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert (result["n"], result["choosing"], result["broken"]) == (3, 4, 1)
    assert "03.png" in capsys.readouterr().err
    Image.new("RGB", (80, 60)).save(data / "val" / "03.png")  # mended: the next run takes it in


def test_other_settings_need_another_folder(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert run(["evaluate", str(data), "-o", out, *GRID]) == 0
    assert run(["evaluate", str(data), "-o", out, *GRID, "--percentile", "20"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(["evaluate", str(data), "-o", out, *GRID, "--percentile", "20", "--overwrite"]) == 0


def test_fidelity_stands_beside_localization(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["evaluate", str(data), "-o", str(out), *GRID, "--fidelity"]) == 0
    text = capsys.readouterr().out
    for word in ("Average Drop ↓", "Increase in Confidence ↑", "centre blob", "centre box", "over softmax"):
        assert word in " ".join(text.split())
    result = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert (result["n"], result["choosing"]) == (4, 4)
    metrics = result["cells"][0]["metrics"]
    assert metrics["Average Drop"]["value"]["n"] == 4  # the photos that choose thresholds need no fidelity
    assert result["better"]["Average Drop"] == "lower"
    assert result["trivial"]["whole photo"]["Average Drop"]["mean"] == 0
    assert "before normalization" in result["fidelity"]
    rows = list(csv.DictReader((out / "results.csv").read_text(encoding="utf-8").splitlines()))
    assert {(row["metric"], row["better"]) for row in rows} >= {("Average Drop", "lower"), ("MaxBoxAccV2", "higher")}
    assert (out / "results.md").read_text(encoding="utf-8").count("| branch |") == 2
    assert r"Average Drop $\downarrow$" in (out / "results.tex").read_text(encoding="utf-8")


def test_fidelity_needs_no_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mere folder of photos does, whose classes nobody knows; a broken photo costs itself only."""
    folder, generator = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    for number in range(3):
        Image.fromarray(generator.integers(0, 255, (50, 60, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    options = ["--method", "cam", "--normalize", "max", "--fidelity", "average-drop", "--scored-by", "sigmoid"]
    assert run(["evaluate", str(folder), "-o", str(tmp_path / "out"), *options]) == 1
    captured = capsys.readouterr()
    assert "broken.png" in captured.err
    assert "MaxBoxAcc" not in captured.out
    assert "Top-1" not in captured.out
    result = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert (result["n"], result["broken"]) == (3, 1)
    assert list(result["cells"][0]["metrics"]) == ["Average Drop (sigmoid)"]


def test_the_true_class_may_be_judged(data: Path, tmp_path: Path) -> None:
    options = [*GRID, "--select", "none", "--fidelity", "average-drop", "--explain"]
    rows = {}
    for which in ("true", "predicted"):
        out = tmp_path / which
        assert run(["evaluate", str(data), "-o", str(out), *options, which]) == 0
        result = json.loads((out / "results.json").read_text(encoding="utf-8"))
        rows[which] = [cell["metrics"] for cell in result["cells"]]
    assert rows["true"][0]["Average Drop"] != rows["predicted"][0]["Average Drop"]
    assert rows["true"][0]["MaxBoxAccV2"] == rows["predicted"][0]["MaxBoxAccV2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fidelity", "average-dorp"], "average-drop"),
        (["--fidelity", "adcc", "--flip"], "--flip"),
        (["--sample", "3"], "--fidelity"),
        (["--fidelity", "--sample", "0"], "sample"),
        (["--fidelity", "--steps", "0"], "steps"),
        (["--branch", "softmx"], "softmax-centered"),
        (["--scales", "9"], "scales"),
        (["--threshold", "1.5"], "threshold"),
        (["--split", "test"], "val"),
        (["--select", "train"], "val"),
    ],
)
def test_mistakes_are_named(
    data: Path, tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(data), "-o", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_a_folder_without_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "photos" / name / "1.png")
    assert run(["evaluate", str(tmp_path / "photos"), "-o", str(tmp_path / "out")]) == 2
    assert "no boxes and no masks" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--fidelity"]])
def test_a_killed_run_goes_on_to_the_same_numbers(data: Path, tmp_path: Path, more: list[str]) -> None:
    out, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "dualcam", "evaluate", str(data), *GRID, "--batch-size", "1", "--workers", "1"]
    command += more
    process = subprocess.Popen([*command, "-o", str(out)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (out / "records.bin").exists() and any((out / "records.bin").read_bytes()):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    process.wait()
    assert run([*command[3:], "-o", str(out)]) == 0
    assert run([*command[3:], "-o", str(whole)]) == 0
    first, second = (json.loads((each / "results.json").read_text(encoding="utf-8")) for each in (out, whole))
    assert first["cells"] == second["cells"]


def test_figure_shows_good_and_bad(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "figure.png"
    assert run(["figure", str(data), "-o", str(picture), "--method", "cam", "grad-cam++", "--count", "2"]) == 0
    with Image.open(picture) as image:
        assert image.width > 5 * 168
        assert image.height > 6 * 168
    assert "mean IoU of 8 photos" in capsys.readouterr().out
    assert run(["figure", str(data), "-o", str(picture), "--count", "0"]) == 2
