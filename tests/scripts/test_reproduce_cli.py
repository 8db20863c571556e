"""The whole path on a miniature of each dataset in its true layout: classifier, branch, figures, card, table."""

import json
from pathlib import Path

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
    capsys.readouterr()
    assert run(command) == 0
    assert capsys.readouterr().out.count("done already") == 3


def test_without_data_the_way_out_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUALCAM_DATA", raising=False)
    assert run(["reproduce", "table1"]) == 2
    assert "--data-root" in capsys.readouterr().err
