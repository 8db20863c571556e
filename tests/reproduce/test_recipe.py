"""Recipes are complete, agree with what was published, and mistakes in one's own are named."""

from dataclasses import replace
from pathlib import Path

import pytest

from dualcam import methods
from dualcam.errors import ChoiceError
from dualcam.reproduce.published import TABLES, datasets, metrics, published
from dualcam.reproduce.recipe import FOLDER, choose, read_recipe, recipes

# The authors' branch rates: (VGG-16, ResNet-50, InceptionV3) x (CAM, Grad-CAM).
RATES = {
    "ILSVRC": (3e-3, 1e-4, 1e-4, 5e-3, 5e-4, 5e-4),
    "CUB": (5e-5, 1e-3, 1e-4, 1e-4, 1e-4, 9e-2),
    "CARS": (3e-3, 1e-4, 1e-4, 1e-4, 1e-4, 5e-3),
    "OpenImages": (5e-4, 5e-4, 2e-2, 5e-4, 3e-4, 3e-4),
}
BACKBONES = ("vgg16", "resnet50", "inception_v3")


def test_there_is_one_of_each() -> None:
    found = {(recipe.dataset, recipe.backbone, recipe.methods[0]): recipe for recipe in recipes().values()}
    assert len(found) == len(recipes()) == 24
    for dataset, rates in RATES.items():
        for place, rate in enumerate(rates):
            recipe = found[dataset, BACKBONES[place // 2], ("cam", "grad-cam")[place % 2]]
            assert recipe.branch.lr == rate
            assert recipe.branch.lr_factor == (1 if recipe.backbone == "resnet50" else 10)
            assert (recipe.branch.epochs, recipe.branch.lr_step) == {"CUB": (50, 15), "CARS": (10, 15)}.get(
                dataset, (10, 3)
            )


def test_recipes_name_what_exists() -> None:
    for recipe in recipes().values():
        assert set(recipe.methods) <= set(methods.available())
        prefix, _, network = recipe.model.partition(":")
        assert prefix in ("wsol", "torchvision")
        assert network.startswith(recipe.backbone)
        assert (recipe.classifier is None) == (recipe.dataset == "ILSVRC" and recipe.methods == ("grad-cam",))


def test_every_published_row_has_its_recipe() -> None:
    runs = {(r.dataset, r.backbone, method) for r in recipes().values() for method in r.methods}
    for table in TABLES:
        for dataset in datasets(table):
            rows = [(b, m) for b in BACKBONES for m in methods.available() if published(table, dataset, b, m)]
            assert rows
            for backbone, method in rows:
                assert (dataset, backbone, method) in runs
                assert set(published(table, dataset, backbone, method)) == set(metrics(table, dataset))
    assert published("table1", "CUB", "resnet50", "cam")["Average Drop"] == (44.17, 13.86)
    assert published("table2", "ILSVRC", "vgg16", "grad-cam")["MaxBoxAccV2"].dual == 60.17


def test_only_narrows_by_kind_and_widens_within_one() -> None:
    every = tuple(recipes().values())
    assert len(choose((), every)) == 24
    assert len(choose(("cub",), every)) == 6
    assert len(choose(("cub", "cars", "resnet50"), every)) == 4
    assert [recipe.name for recipe in choose(("cub", "vgg16", "cam"), every)] == ["cub-vgg16-cam"]
    for words in (
        ("cub,resnet50",),
        ("CUB", "ResNet-50"),
        ("cub,", "resnet50"),
        ("cub-resnet50-cam,cub-resnet50-gradcam",),
    ):
        assert [recipe.name for recipe in choose(words, every)] == ["cub-resnet50-cam", "cub-resnet50-gradcam"]
    assert choose(("ILSVRC", "inception_v3", "grad-cam"), every) == (recipes()["imagenet-inceptionv3-gradcam"],)
    with pytest.raises(ChoiceError, match=r"birds.*cub.*resnet50.*gradcam"):
        choose(("birds",), every)
    with pytest.raises(ChoiceError, match=r"no recipe is all of"):
        choose(("cub-resnet50-cam", "vgg16"), every)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("epochs: 50", "epochs: many", "epochs is 'many'"),
        ("epochs: 50", "epochs: 1.5", "whole number"),
        ("epochs: 50", "epoch: 50", "does not know epoch and lacks epochs"),
        ("epochs: 50", "epochs: .inf", "a number of at least 0"),
        ("batch_size: 32", "batch_size: 0", "batch_size is 0"),
        ("threshold: 0.2", "threshold: 20", "threshold is 20.0"),
        ("methods: [cam]", "methods: cam", "expected a list"),
        ("methods: [cam]", "methods: [gradcam]", "'gradcam' is not known; choose one of .*'grad-cam'"),
        ("model: wsol:resnet50-28", "model:", "model is None"),
        ("dataset: CUB\n", "", "lacks dataset"),
        ("dataset: CUB", "dataset: CUB\ncolor: red", "does not know color"),
        ("dataset: CUB", "dataset: [", "no recipe"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    text = (FOLDER / "cub-resnet50-cam.yaml").read_text(encoding="utf-8")
    assert before in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(ChoiceError, match=message) as raised:
        read_recipe(path)
    assert str(path) in str(raised.value)


def test_numbers_without_a_point_are_numbers(tmp_path: Path) -> None:
    text = (FOLDER / "cub-resnet50-cam.yaml").read_text(encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("  lr: 1.0e-4", "  lr: 1e-4").replace("epochs: 50", "epochs: 5e1"), encoding="utf-8")
    assert replace(read_recipe(path), name="cub-resnet50-cam") == recipes()["cub-resnet50-cam"]


def test_a_file_of_anything_else_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "photo.yaml").write_bytes(bytes(range(256)))
    for path in (tmp_path / "photo.yaml", tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(ChoiceError, match="is no recipe"):
            read_recipe(path)
