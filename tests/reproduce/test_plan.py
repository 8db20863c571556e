"""Steps are commands: complete, in order, skipped when done, resumed when begun."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from dualcam.errors import DataError, DualcamError
from dualcam.reproduce.figures import FIGURES, figure_recipes, figure_steps
from dualcam.reproduce.plan import Place, Step, find_data, steps
from dualcam.reproduce.recipe import SMALL, recipes
from dualcam.reproduce.run import candidates, plan, run_steps


@pytest.fixture
def place(tmp_path: Path) -> Place:
    root = tmp_path / "data"
    for name in ("CUB", "stanford_cars", "imagenet", "OpenImages30K", "butterflies"):
        (root / name).mkdir(parents=True)
    return Place(root, tmp_path / "out")


def value(command: Sequence[str], flag: str) -> str:
    return command[command.index(flag) + 1]


def test_a_recipe_is_classifier_branch_and_figures(place: Place) -> None:
    recipe = recipes()["cub-vgg16-gradcam"]
    classifier, branch, *figures = steps(recipe, place, fidelity=True)
    assert classifier.command[:2] == ("train-classifier", str(place.root / "CUB"))
    assert float(value(classifier.command, "--lr")) == 1e-4
    assert value(branch.command, "--model") == str(classifier.output.parent)
    assert "--frozen-mode" not in branch.command
    assert float(value(branch.command, "--lr")) == pytest.approx(1e-2)  # 1e-3 times the published optimizer's 10
    for step in (classifier, branch):
        assert value(step.command, "--val-share") == "0"  # all training photos are trained on, as published
    assert [value(step.command, "--method") for step in figures] == list(recipe.methods)
    for step in figures:
        assert value(step.command, "--model") == str(branch.output.parent)
        assert value(step.command, "--space") == "normalized"
        assert "--first-box" not in step.command


def test_pretrained_networks_need_no_first_stage(place: Place) -> None:
    branch, figures = steps(recipes()["imagenet-resnet50-gradcam"], place, fidelity=False)
    assert value(branch.command, "--model") == "torchvision:resnet50"
    assert "--fidelity" not in figures.command


def test_as_published_does_what_the_published_code_does(place: Place) -> None:
    _, branch, figures, own = steps(
        recipes()["cub-resnet50-cam"], Place(place.root, place.out, as_published=True), fidelity=True
    )
    assert value(branch.command, "--start") == "random"
    assert "--no-cache" in branch.command
    assert value(branch.command, "--frozen-mode") == "train"
    assert "--first-box" in figures.command
    assert value(own.command, "--scored-by") == "sigmoid"


def test_recipes_share_a_classifier(place: Place) -> None:
    chosen = [recipes()[f"cub-resnet50-{method}"] for method in ("cam", "gradcam")]
    both = plan("table1", chosen, place)
    assert sum(step.command[0] == "train-classifier" for step in both) == 2  # other networks: 28 cells, and plain
    small = [recipes(SMALL)[f"butterflies-lite0-{method}"] for method in ("cam", "gradcam")]
    assert sum(step.command[0] == "train-classifier" for step in plan("small", small, place)) == 1
    assert len(candidates("table1")) == 12
    assert len(candidates("table2")) == 12


def test_what_is_done_is_skipped_and_what_is_begun_goes_on(tmp_path: Path) -> None:
    first = Step("first", ("one",), tmp_path / "first")
    second = Step("second", ("two",), tmp_path / "second", begun=tmp_path / "state")
    first.output.touch()
    ran: list[Sequence[str]] = []
    told: list[str] = []

    def dies(arguments: Sequence[str]) -> int:
        ran.append(arguments)
        (tmp_path / "state").mkdir(exist_ok=True)
        return 1

    with pytest.raises(DualcamError, match="second ended with exit code 1"):
        run_steps([first, second], dies, told.append)
    assert ran == [("two",)]
    assert "done already" in told[0]

    def ends(arguments: Sequence[str]) -> int:
        ran.append(arguments)
        second.output.touch()
        return 0

    run_steps([first, second], ends, told.append)
    assert ran[-1] == ("two", "--resume")
    with pytest.raises(KeyboardInterrupt):
        run_steps([Step("third", ("three",), tmp_path / "third")], lambda _: 130, told.append)


def test_data_are_found_by_their_usual_names(place: Place, tmp_path: Path) -> None:
    assert find_data(place.root, "CARS").name == "stanford_cars"
    (tmp_path / "flat" / "metadata" / "CUB").mkdir(parents=True)
    assert find_data(tmp_path / "flat", "CUB") == tmp_path / "flat"
    with pytest.raises(DataError, match="OpenImages is in none of"):
        find_data(tmp_path / "flat", "OpenImages")


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_figures_are_drawn_of_branches(name: str, place: Place) -> None:
    chosen = figure_recipes(name)
    assert chosen
    drawn = figure_steps(name, chosen[:1], place)
    assert [step.command[0] for step in drawn][-1] == ("diagnose" if name == "figure1" else "figure")
    assert drawn[-2].command[0] == "train"
