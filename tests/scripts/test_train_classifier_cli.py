"""`dualcam train-classifier` as a user runs it: alone, and as two processes that may be killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dualcam.classifier.checkpoint import MANIFEST
from dualcam.cli.main import run
from tests.photos_on_disk import write_folder, write_photo

NETWORK = ("-m", "timm:test_resnet", "--weights", "random", "--device", "cpu")
TWO = ("--devices", "2", "--timeout", "60")
HOPE = 200
"""Seconds that a test hopes for a process; far more than it takes on a busy machine."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUALCAM_CACHE", str(tmp_path / "cache"))
    write_folder(tmp_path / "data", {"crane": 7, "heron": 7, "stork": 7})
    return tmp_path / "data"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "dualcam", *map(str, arguments)]


def begin(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(*arguments: object) -> str:
    process = begin(*arguments)
    _, told = process.communicate(timeout=HOPE)
    assert process.returncode == 0, told
    return told


def distance(one: Path, other: Path, name: str = "weights.safetensors") -> float:
    ours, theirs = load_file(one / name), load_file(other / name)
    assert ours.keys() == theirs.keys()
    return max(float((ours[key].double() - theirs[key].double()).abs().max()) for key in ours)


@pytest.mark.slow
def test_classifier_then_branch_then_maps(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, branch = tmp_path / "classifier", tmp_path / "branch"
    assert run(["train-classifier", str(data), *NETWORK, "-o", str(out), "--epochs", "6", "--lr", "0.02"]) == 0
    told = capsys.readouterr().err
    assert "epoch 6/6" in told and "classifier in" in told
    assert run(["train", str(data), "--model", str(out), "-o", str(branch), "--epochs", "1", "--views", "2"]) == 0
    write_photo(tmp_path / "photo.png", 1)
    maps = tmp_path / "maps"
    assert (
        run(["explain", str(tmp_path / "photo.png"), "-o", str(maps), "--model", str(branch), "--classes", "top1"]) == 0
    )
    assert (maps / "results.jsonl").read_text().count("heron") == 1, "green photos are herons here"
    shutil.move(out, tmp_path / "elsewhere")
    capsys.readouterr()
    assert run(["describe", "--model", str(branch)]) == 2
    assert "classifier.json" in capsys.readouterr().err


def test_mistakes_end_with_a_message_and_code_2(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[list[str], str]] = [
        (["-m", "timm:nothing"], "timm has no model"),
        ([*NETWORK, "--batch-size", "0"], "batch_size must be at least 1"),
        ([*NETWORK, "--devices", "0"], "devices and nodes must be at least 1"),
        ([*NETWORK, "--nodes", "2"], "--nodes 2 needs MASTER_ADDR, MASTER_PORT, NODE_RANK"),
        (["-m", "timm:test_resnet", "--weights", "absent.pt", "--device", "cpu"], "is not a file"),
        ([], "--model"),
    ]
    for arguments, text in cases:
        assert run(["train-classifier", str(data), "-o", str(tmp_path / "o"), *arguments]) == 2, arguments
        captured = capsys.readouterr()
        assert text in captured.err + captured.out
        assert "Traceback" not in captured.err


@pytest.mark.slow
def test_two_processes_count_and_train_as_one(data: Path, tmp_path: Path) -> None:
    """The head's gradients are those of the whole batch, however it is dealt; the last batch is one photo."""
    (data / "crane" / "broken.png").write_bytes(b"not a picture")
    options = ("--train", "head", "--epochs", "2", "--batch-size", "6", "--lr", "0.05", "--val-share", "0.2")
    one, two = tmp_path / "one", tmp_path / "two"
    finish("train-classifier", data, *NETWORK, *options, "-o", one)
    finish("train-classifier", data, *NETWORK, *options, "-o", two, *TWO)
    assert distance(one, two) < 1e-5
    rows = [[line.split(",") for line in (out / "history.csv").read_text().splitlines()[1:]] for out in (one, two)]
    for ours, theirs in zip(*rows, strict=True):
        assert [ours[column] for column in (3, 5, 6)] == [theirs[column] for column in (3, 5, 6)], "counts are exact"
        assert float(ours[2]) == pytest.approx(float(theirs[2]), rel=1e-5)
    assert '"crane/broken.png"' in (two / "classifier.json").read_text()


@pytest.mark.slow
def test_when_one_of_two_processes_is_killed_the_other_says_so_and_the_run_resumes(data: Path, tmp_path: Path) -> None:
    options = ("--epochs", "5", "--batch-size", "6", "--lr", "0.01")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish("train-classifier", data, *NETWORK, *options, "-o", whole, *TWO)
    process = begin("train-classifier", data, *NETWORK, *options, "-o", killed, *TWO)
    wait_for(killed / "history.csv", process)
    os.kill(child_of(process), signal.SIGKILL)
    _, told = process.communicate(timeout=HOPE)
    assert process.returncode not in (0, None)
    assert "lost another one" in told or "Child process" in told, told
    assert "Traceback" not in told
    assert not (killed / "classifier.json").exists()
    finish("train-classifier", data, *NETWORK, *options, "-o", killed, *TWO, "--resume")
    assert distance(whole, killed) < 1e-6
    assert (whole / "history.csv").read_text() == (killed / "history.csv").read_text()


@pytest.mark.slow
def test_a_process_that_does_not_answer_is_given_up(data: Path, tmp_path: Path) -> None:
    options = ("--epochs", "400", "--batch-size", "6", "--devices", "2", "--timeout", "25")
    process = begin("train-classifier", data, *NETWORK, *options, "-o", tmp_path / "out")
    wait_for(tmp_path / "out" / "history.csv", process)
    child = child_of(process)
    os.kill(child, signal.SIGSTOP)
    try:
        _, told = communicate_without_child(process, child)
    finally:
        if Path(f"/proc/{child}").exists():
            os.kill(child, signal.SIGKILL)
    assert process.returncode not in (0, None)
    assert "did not answer within 25 s (--timeout)" in told and "--resume" in told


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + HOPE
    while not file.is_file():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def child_of(process: subprocess.Popen[str]) -> int:
    """Return the process that ``process`` started to share its work."""
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_text()
        except (OSError, ValueError, IndexError):
            continue
        if parent == process.pid and "dualcam" in words:
            return int(folder.name)
    raise AssertionError("the run has no second process")


def communicate_without_child(process: subprocess.Popen[str], child: int) -> tuple[str, str]:
    """Wait for ``process`` alone: its stopped child keeps the pipe open, and ends afterwards."""
    process.wait(timeout=HOPE)
    os.kill(child, signal.SIGKILL)
    return process.communicate(timeout=HOPE)


def test_weights_of_a_run_are_finite_numbers_without_a_network_file(data: Path, tmp_path: Path) -> None:
    """A short run in this process, so that its options are covered without starting another."""
    out = tmp_path / "out"
    options = ["--train", "head", "--epochs", "1", "--lr", "0.01", "--augment", "none", "--workers", "0"]
    assert run(["train-classifier", str(data), *NETWORK, "-o", str(out), *options]) == 0
    assert all(bool(torch.isfinite(tensor.float()).all()) for tensor in load_file(out / "weights.safetensors").values())


@pytest.mark.slow
def test_the_size_is_the_checkpoint_s(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, branch = tmp_path / "classifier", tmp_path / "branch"
    arguments = ["train-classifier", str(data), *NETWORK, "-o", str(out), "--epochs", "1"]
    assert run([*arguments, "--size", "16"]) == 2
    assert "--size must be at least 32" in capsys.readouterr().err
    assert run([*arguments, "--size", "64"]) == 0
    assert run(["train", str(data), "-m", str(out), "-o", str(branch), "--epochs", "1", "--size", "96"]) == 0
    sizes = [
        json.loads((each).read_text())["preprocessing"]["size"] for each in (out / MANIFEST, branch / "dualcam.json")
    ]
    assert sizes == [[64, 64], [96, 96]]


def test_what_the_file_system_refuses_is_told(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run(["train-classifier", str(data), *NETWORK, "-o", str(tmp_path / "file" / "out"), "--epochs", "1"]) == 2
    error = capsys.readouterr().err
    assert "Not a directory; choose another folder" in error and "Traceback" not in error
