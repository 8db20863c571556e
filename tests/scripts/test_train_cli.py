"""`dualcam train` as a user runs it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dualcam.cli.main import run
from tests.photos_on_disk import write_folder, write_photo


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUALCAM_CACHE", str(tmp_path / "cache"))
    write_folder(tmp_path / "data", {"heron": 5, "stork": 5})
    return tmp_path / "data"


def branch(folder: Path) -> bytes:
    return (folder / "branch.safetensors").read_bytes()


@pytest.mark.slow
def test_train_then_explain(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["train", str(data), "-o", str(out), "--fit-head", "linear", "--epochs", "2", "--views", "2"]) == 0
    assert "epoch 2/2" in capsys.readouterr().err
    photo = tmp_path / "photo.png"
    write_photo(photo, 1)
    assert run(["explain", str(photo), "-o", str(tmp_path / "maps"), "--model", str(out)]) == 0
    assert (tmp_path / "maps" / "results.jsonl").read_text().count("stork") == 1


def test_mistakes_end_with_a_message_and_code_2(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [
        (["train", str(data), "-o", str(tmp_path / "o")], "--fit-head linear"),
        (["train", str(tmp_path / "absent"), "-o", str(tmp_path / "o")], "is not a folder"),
        (["train", str(data), "-o", str(tmp_path / "o"), "--views", "0"], "views must be at least 1"),
        (["train", str(data), "-o", str(tmp_path / "o"), "--model", "timm:nothing"], "timm has no model"),
        (["train", str(data), "-o", str(tmp_path / "o"), "--solver", "adam"], "adam"),
    ]
    for arguments, text in cases:
        assert run(arguments) == 2, arguments
        captured = capsys.readouterr()
        assert text in captured.err + captured.out
        assert "Traceback" not in captured.err


@pytest.mark.slow
def test_killed_at_any_moment_it_resumes_to_the_same_bits(data: Path, tmp_path: Path) -> None:
    options = ["--fit-head", "linear", "--epochs", "400", "--views", "2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(["train", str(data), "-o", str(whole), *options]) == 0
    command = [sys.executable, "-m", "dualcam", "train", str(data), "-o", str(killed), *options]
    environment = {**os.environ, "DUALCAM_CACHE": str(tmp_path / "other")}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not (killed / "history.csv").is_file() or len((killed / "history.csv").read_text().splitlines()) < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "dualcam.json").exists()
    assert run(["train", str(data), "-o", str(killed), *options, "--resume"]) == 0
    assert branch(whole) == branch(killed)
