"""The whole path on a miniature of each dataset in its true layout: classifier, branch, figures, card, table."""

import json
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from dualcam.cli.main import run
from dualcam.reproduce.recipe import FOLDER
from tests.generators import wsol

RECIPES = {"CUB": "cub", "CARS": "cars", "ILSVRC": "imagenet", "OpenImages": "openimages"}


def tiny_recipe(dataset: str, folder: Path) -> Path:
    """Write the dataset's ResNet-50 recipe for a tiny network and two epochs."""
    text = (FOLDER / f"{RECIPES[dataset]}-resnet50-cam.yaml").read_text(encoding="utf-8")
    lines = []
    for line in text.splitlines():
        name = line.split(":")[0]
        changed = {"model": "timm:test_resnet", "backbone": "tiny", "  epochs": "2", "  size": "64"}
        lines.append(f"{name}: {changed[name]}" if name in changed else line)
    path = folder / f"{dataset.lower()}-tiny-cam.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("dataset", sorted(RECIPES))
def test_a_miniature_goes_the_whole_way_and_is_not_run_again(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUALCAM_CACHE", str(tmp_path / "cache"))
    wsol.write(tmp_path / "data" / dataset, dataset)
    table = "table1" if dataset in ("CUB", "CARS") else "table2"
    recipe = str(tiny_recipe(dataset, tmp_path))
    command = ["reproduce", table, "--data-root", "data", "--recipe", recipe, "--weights", "random", "-o", "out"]
    assert run([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("to do: dualcam") == 3
    assert run(command) == 0
    lines = json.loads((tmp_path / "out" / f"{table}.json").read_text(encoding="utf-8"))["lines"]
    metrics = {line["metric"] for line in lines}
    assert "Top-1 Cls" in metrics
    assert ("PxAP" if dataset == "OpenImages" else "MaxBoxAccV2") in metrics
    assert ("Average Drop" in metrics) == (table == "table1")
    card = (tmp_path / "out" / f"{dataset.lower()}-tiny-cam" / "branch" / "README.md").read_text(encoding="utf-8")
    assert "Not measured" not in card
    assert "| sigmoid | cam | positive |" in card
    capsys.readouterr()
    assert run(command) == 0
    assert capsys.readouterr().out.count("done already") == 3


def test_without_data_the_way_out_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUALCAM_DATA", raising=False)
    assert run(["reproduce", "table1"]) == 2
    assert "--data-root" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "table"), [("CUB", "table1"), ("ILSVRC", "table2")])
def test_as_published_differs_in_all_that_it_says(
    dataset: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUALCAM_CACHE", str(tmp_path / "cache"))
    wsol.write(tmp_path / "data" / dataset, dataset, splits=("train", "val", "test"), several=True)
    recipe = str(tiny_recipe(dataset, tmp_path))
    command = ["reproduce", table, "--data-root", "data", "--recipe", recipe, "--weights", "random", "-o", "out"]
    assert run([*command, "--as-published"]) == 0
    home = tmp_path / "out" / f"{dataset.lower()}-tiny-cam-as-published"
    training = read(home / "branch" / "dualcam.json")["training"]
    chosen = {name: training["settings"][name] for name in ("start", "frozen_mode", "views", "anchor")}
    assert chosen == {"start": "random", "frozen_mode": "train", "views": 1, "anchor": "zero"}
    assert (training["cached"], training["data"]["photos"]) == (False, 4)
    judged = read(home / ("cam" if table == "table1" else "cam-localization") / "results.json")
    assert (judged["settings"]["first_box"], judged["settings"]["select"]) == (True, "none")
    assert judged["choosing"] == judged["n"] == 4
    own = home / "cam-own-scorer" / "results.json"
    assert own.is_file() == (table == "table1")
    content = read(tmp_path / "out" / f"{table}-as-published.json")
    assert "As published" in content["notes"]
    if own.is_file():
        scored = read(own)
        assert scored["settings"]["fidelity"]["scored_by"] == "sigmoid"
        (drop,) = [line for line in content["lines"] if line["metric"] == "Average Drop"]
        assert drop["difference"] is None
        cell = next(cell for cell in scored["cells"] if cell["sign"] == "positive")
        assert drop["dual"] == cell["metrics"]["Average Drop (sigmoid)"]["value"]


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_half_of_the_data_makes_half_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUALCAM_CACHE", str(tmp_path / "cache"))
    for dataset in ("CUB", "ILSVRC"):  # in one folder of metadata
        wsol.write(tmp_path / "data", dataset, prefix=f"{dataset}/", splits=("train", "val", "test"))
    (tmp_path / "data" / "CUB" / "000.Bird" / "Bird_test_1.jpg").write_bytes(b"")
    recipes = [str(tiny_recipe(dataset, tmp_path)) for dataset in ("CUB", "CARS")]
    command = ["reproduce", "table1", "--data-root", "data", "--recipe", *recipes, "--weights", "random", "-o", "out"]
    assert run(command) == 1
    printed = capsys.readouterr()
    assert "missing: CARS is not in data" in printed.err
    assert "broken photos were left out: cub-tiny-cam" in printed.err
    content = json.loads((tmp_path / "out" / "table1.json").read_text(encoding="utf-8"))
    assert {line["dataset"] for line in content["lines"]} == {"CUB"}
    assert {line["dual"]["n"] for line in content["lines"]} == {3}
    assert "NOT MEASURED: CARS" in content["notes"]
    assert "'CUB/val'" in (tmp_path / "out" / "cub-tiny-cam" / "cam" / "results.json").read_text(encoding="utf-8")


def test_without_any_data_every_place_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", "table1", "--data-root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in ("CUB_200_2011", "stanford_cars", "metadata/CARS", "--only"))


def test_the_recipes_of_one_s_own_need_names_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for home in ("a", "b"):
        (tmp_path / home).mkdir()
        files.append(str(tiny_recipe("CUB", tmp_path / home)))
    assert run(["reproduce", "table1", "--data-root", str(tmp_path), "--recipe", *files]) == 2
    assert "cub-tiny-cam" in capsys.readouterr().err


def test_the_output_has_to_be_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run(["reproduce", "table1", "--data-root", str(tmp_path), "-o", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_steps_that_start_processes_run_in_one_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that Fabric starts repeat the command that they are started from: it has to be the step's."""
    wsol.write(tmp_path / "CUB", "CUB")
    ran: list[list[str]] = []

    def fails(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        assert log.read_text(encoding="utf-8").count("[1/3]"), "told before the step's own process writes"
        return subprocess.CompletedProcess(command, 2 + check)

    log = tmp_path / "log"
    monkeypatch.setattr(subprocess, "run", fails)
    arguments = ["reproduce", "table1", "--data-root", str(tmp_path), "--only", "cub,vgg16,cam", "--devices", "2"]
    with log.open("w", encoding="utf-8") as stream, redirect_stdout(stream):
        assert run([*arguments, "-o", str(tmp_path / "out")]) == 2
    (command,) = ran
    assert command[:4] == [sys.executable, "-m", "dualcam", "train-classifier"]
    assert command[command.index("--devices") + 1] == "2"
