"""`dualcam train` as two processes: the same branch as one, with a cache and without, and after a kill."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.photos_on_disk import write_folder
from tests.scripts.test_train_classifier_cli import child_of

pytestmark = pytest.mark.slow
HOPE = 200
"""Seconds that a test hopes for a process; far more than it takes on a busy machine."""
TWO = ("--devices", "2", "--timeout", "60")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_folder(tmp_path / "data", {"crane": 8, "heron": 8, "stork": 8})
    (tmp_path / "data" / "crane" / "broken.png").write_bytes(b"not a picture")
    return tmp_path / "data"


@pytest.fixture
def classifier(data: Path, tmp_path: Path) -> Path:
    """A tiny classifier of the data's classes."""
    out = tmp_path / "classifier"
    options = ("-m", "timm:test_resnet", "--weights", "random", "--epochs", "2", "--lr", "0.02")
    finish(begin("train-classifier", data, *options, "--device", "cpu", "-o", out))
    return out


def begin(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dualcam", *map(str, arguments)],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    _, told = process.communicate(timeout=HOPE)
    assert process.returncode == 0, told
    return told


def distance(one: Path, other: Path) -> float:
    ours, theirs = (load_file(out / "branch.safetensors") for out in (one, other))
    assert ours.keys() == theirs.keys()
    return max(float((ours[key].double() - theirs[key].double()).abs().max()) for key in ours)


def moved(out: Path, classifier: Path) -> float:
    """How far the branch went from its start, the classifier's last layer."""
    branch, start = load_file(out / "branch.safetensors"), load_file(classifier / "weights.safetensors")
    (weight,) = (tensor for tensor in branch.values() if tensor.dim() == 2)
    return float((weight - start["fc.weight"]).abs().max())


def figures(out: Path) -> list[list[float]]:
    rows = (out / "history.csv").read_text().splitlines()[1:]
    return [[float(value) for value in row.split(",") if value] for row in rows]


@pytest.mark.parametrize("cached", [True, False], ids=["cache", "no-cache"])
def test_two_processes_train_the_branch_of_one(cached: bool, data: Path, classifier: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    options = (
        "--model",
        classifier,
        "--device",
        "cpu",
        "--epochs",
        "2",
        "--views",
        "3",
        "--batch-size",
        "7",
        "--lr",
        "0.5",
    )
    for out, extra in ((one, ()), (two, TWO)):
        kept = ("--cache-dir", tmp_path / f"cache-{out.name}") if cached else ("--no-cache",)
        finish(begin("train", data, *options, *kept, *extra, "-o", out))
    assert distance(one, two) < 1e-5 < moved(one, classifier)
    for ours, theirs in zip(figures(one), figures(two), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
        assert ours[-2:] == theirs[-2:], "validation counts are exact"
    records = [json.loads((out / "dualcam.json").read_text())["training"] for out in (one, two)]
    assert (
        records[0]["broken_photos"] == records[1]["broken_photos"] and "crane/broken.png" in records[0]["broken_photos"]
    )
    if cached:
        names = [sorted(item.name for item in (tmp_path / f"cache-{name}").iterdir()) for name in ("one", "two")]
        assert names[0] == names[1], "the same files, and nothing of the parts is left"


def test_two_machines_train_the_branch_of_one(data: Path, classifier: Path, tmp_path: Path) -> None:
    """Two commands that meet by MASTER_ADDR, MASTER_PORT and NODE_RANK, here over loopback."""
    one, two = tmp_path / "one", tmp_path / "two"
    options = ("--model", classifier, "--device", "cpu", "--epochs", "2", "--views", "2", "--no-cache", "--lr", "0.5")
    finish(begin("train", data, *options, "-o", one))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1])}
    shared = ("--nodes", "2", "--timeout", "60", "-o", two)
    machines = [begin("train", data, *options, *shared, **address, NODE_RANK=str(rank)) for rank in range(2)]
    for machine in machines:
        finish(machine)
    assert distance(one, two) < 1e-5 < moved(one, classifier)


def test_a_killed_process_ends_the_run_and_it_resumes(data: Path, classifier: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = ("--model", classifier, "--device", "cpu", "--epochs", "6", "--views", "2", "--no-cache", *TWO)
    finish(begin("train", data, *options, "-o", whole))
    process = begin("train", data, *options, "-o", killed)
    wait_for_epoch(killed, process)
    os.kill(child_of(process), signal.SIGKILL)
    _, told = process.communicate(timeout=HOPE)
    assert process.returncode not in (0, None) and "Traceback" not in told
    assert "lost another one" in told or "Child process" in told
    assert not (killed / "dualcam.json").exists()
    finish(begin("train", data, *options, "-o", killed, "--resume"))
    assert distance(whole, killed) == 0
    assert figures(whole) == figures(killed)


def wait_for_epoch(out: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + HOPE
    while not (out / "history.csv").is_file() or len((out / "history.csv").read_text().splitlines()) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
