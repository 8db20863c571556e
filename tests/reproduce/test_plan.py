"""Steps are commands: complete, in order, skipped when done, resumed when begun."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dualcam.errors import ChoiceError, DataError
from dualcam.reproduce.figures import FIGURES, figure_recipes, figure_steps
from dualcam.reproduce.plan import Data, Place, Step, find_data, steps
from dualcam.reproduce.recipe import SMALL, recipes
from dualcam.reproduce.run import candidates, check_made_of, plan, run_steps, with_data
from tests.generators import wsol


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
    assert value(branch.command, "--views") == "1"  # an epoch is one pass over the photos
    assert value(branch.command, "--frozen-mode") == "train"
    assert "--first-box" in figures.command
    assert value(figures.command, "--select") == "none"  # thresholds are the best on what is reported
    assert value(own.command, "--scored-by") == "sigmoid"


def test_figures_as_published_are_files_of_their_own(place: Place) -> None:
    recipe = [recipes()["cub-resnet50-cam"]]
    for name in ("figure1", "figure3"):
        drawn = {figure_steps(name, recipe, each)[-1].output for each in (place, replace(place, as_published=True))}
        assert len(drawn) == 2


def test_what_the_machine_has_goes_to_who_can_use_it(place: Place) -> None:
    quick = replace(
        place, loading=("--workers", "8"), sharing=("--devices", "4"), classifying=("--precision", "bf16-mixed")
    )
    classifier, branch, figures = steps(recipes()["cub-resnet50-cam"], quick, fidelity=False)
    assert value(classifier.command, "--devices") == value(branch.command, "--devices") == "4"
    assert (value(classifier.command, "--precision"), "--precision" in branch.command) == ("bf16-mixed", False)
    assert {value(step.command, "--workers") for step in (classifier, branch, figures)} == {"8"}
    _, alone, *_ = steps(recipes()["cub-resnet50-cam"], replace(quick, as_published=True), fidelity=False)
    assert "--devices" not in alone.command  # statistics of a batch are those of the whole batch


def test_every_stage_sees_photos_of_the_recipe_s_size(place: Place) -> None:
    for name in ("imagenet-inceptionv3-gradcam", "cub-inceptionv3-gradcam"):  # torchvision's own would be 299
        assert {value(step.command, "--size") for step in steps(recipes()[name], place, fidelity=False)} == {"224"}


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

    assert run_steps([first, second], dies, told.append).failed == ["second"]
    assert ran == [("two",)]
    assert "done already" in told[0]
    assert "second: ended with exit code 1" in told[-1]

    def ends(arguments: Sequence[str]) -> int:
        ran.append(arguments)
        second.output.touch()
        return 0

    run_steps([first, second], ends, told.append)
    assert ran[-1] == ("two", "--resume")
    with pytest.raises(KeyboardInterrupt):
        run_steps([Step("third", ("three",), tmp_path / "third")], lambda _: 130, told.append)


def test_what_failed_costs_only_what_needs_it(tmp_path: Path) -> None:
    names = ("classifier", "branch", "figures", "another", "broken")
    needs = {"branch": "classifier", "figures": "branch"}
    todo = [Step(n, (n,), tmp_path / n, needs=(tmp_path / needs[n],) if n in needs else ()) for n in names]
    ran: list[str] = []

    def runs(arguments: Sequence[str]) -> int:
        ran.append(arguments[0])
        if arguments[0] == "classifier":
            return 2
        (tmp_path / arguments[0]).touch()
        return 1 if arguments[0] == "broken" else 0

    outcome = run_steps(todo, runs, lambda _: None)
    assert ran == ["classifier", "another", "broken"]
    assert (outcome.failed, outcome.left_out, outcome.broken) == (["classifier"], ["branch", "figures"], ["broken"])


def test_what_other_settings_made_is_not_taken_for_these(place: Place) -> None:
    recipe = recipes()["cub-resnet50-cam"]
    todo = plan("table1", [recipe], place)

    def runs(_: Sequence[str]) -> int:
        step = next(step for step in todo if not step.is_done)
        step.output.parent.mkdir(parents=True, exist_ok=True)
        step.output.touch()
        return 0

    run_steps(todo, runs, lambda _: None)
    check_made_of(todo)
    check_made_of(plan("table1", [recipe], replace(place, options=("--device", "cpu"), sharing=("--devices", "8"))))
    longer = replace(recipe, branch=replace(recipe.branch, epochs=51))
    with pytest.raises(
        ChoiceError, match=r"cub-resnet50-cam/branch was made with other.*branch.epochs: 50 then, 51 now"
    ):
        check_made_of(plan("table1", [longer], place))
    with pytest.raises(ChoiceError, match="weights: 'pretrained' then, 'random' now"):
        check_made_of(plan("table1", [recipe], replace(place, weights="random")))
    check_made_of(plan("table1", [longer], replace(place, as_published=True)))  # has a folder of its own
    check_made_of(plan("table2", [replace(recipe, evaluation=replace(recipe.evaluation, threshold=0.1))], place))


def test_data_are_found_by_their_usual_names(place: Place, tmp_path: Path) -> None:
    assert find_data(place.root, "CARS").folder.name == "stanford_cars"
    with pytest.raises(DataError, match=r"KITTI is not in .*none of KITTI, metadata/KITTI"):
        find_data(place.root, "KITTI")
    with pytest.raises(DataError, match=r"absent is not there"):
        find_data(tmp_path / "absent", "CUB")


def test_recipes_without_their_data_are_set_apart(tmp_path: Path) -> None:
    recipe, place = recipes()["cub-vgg16-cam"], Place(tmp_path, tmp_path / "out")
    wsol.write(tmp_path / "CUB", "CUB")
    present, missing = with_data([recipe, replace(recipe, dataset="KITTI")], place)
    assert ([each.dataset for each in present], list(missing)) == (["CUB"], ["KITTI"])


@pytest.mark.parametrize("home", [".", "CUB"])
def test_nothing_is_reported_of_the_photos_that_were_trained_on(home: str, tmp_path: Path) -> None:
    recipe, place = recipes()["cub-vgg16-cam"], Place(tmp_path, tmp_path / "out")
    wsol.write(tmp_path / home, "CUB", splits=("train",))
    present, missing = with_data([recipe], place)
    assert not present
    assert "has no test and no val split to report on; it has CUB/train" in missing["CUB"]
    other = replace(recipe, train="another")
    wsol.write(tmp_path / "another", "CUB")
    assert bool(with_data([other], place)[0]) == (home == "CUB")


def test_one_of_several_datasets_in_a_folder_of_metadata(tmp_path: Path) -> None:
    for dataset, splits in (
        ("CUB", ("train", "val", "test")),
        ("CARS", ("train", "test")),
        ("ILSVRC", ("train", "val")),
    ):
        wsol.write(tmp_path, dataset, prefix=f"{dataset}/", splits=splits)
    assert find_data(tmp_path, "CUB") == Data(tmp_path, ("--split", "CUB/train"), ("--split", "CUB/test"))
    assert find_data(tmp_path, "ILSVRC").test == ("--split", "ILSVRC/val")
    place = Place(tmp_path, tmp_path / "out")
    classifier, branch, figures = steps(recipes()["cub-resnet50-cam"], place, fidelity=False)
    assert value(classifier.command, "--split") == value(branch.command, "--split") == "CUB/train"
    assert value(figures.command, "--split") == "CUB/test"
    for name in ("figure1", "figure3"):
        drawn = figure_steps(name, [recipes()["cub-resnet50-cam"]], place)[-1]
        assert value(drawn.command, "--split") == "CUB/test"
        assert str(tmp_path) in drawn.command


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_figures_are_drawn_of_branches(name: str, place: Place) -> None:
    chosen = figure_recipes(name)
    assert chosen
    drawn = figure_steps(name, chosen[:1], place)
    assert [step.command[0] for step in drawn][-1] == ("diagnose" if name == "figure1" else "figure")
    assert drawn[-2].command[0] == "train"


def test_a_recipe_of_one_s_own_shows_its_methods_where_the_figure_has_others(place: Place) -> None:
    drawn = figure_steps("figure4", [recipes()["cub-resnet50-cam"]], place)[-1]
    assert value(drawn.command, "--method") == "cam"
