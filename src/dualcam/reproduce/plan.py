"""What a table or figure needs, as commands: each could be typed by hand, and each goes on where it was stopped."""

from dataclasses import dataclass
from pathlib import Path

from dualcam.errors import DataError
from dualcam.reproduce.recipe import Recipe

PLACES = {
    "CUB": ("CUB", "CUB_200_2011", "cub"),
    "CARS": ("CARS", "stanford_cars", "StanfordCars", "cars"),
    "ILSVRC": ("ILSVRC", "ImageNet", "imagenet"),
    "OpenImages": ("OpenImages", "OpenImages30K", "openimages"),
}
"""Folders below the data root in which a dataset is looked for; the root itself comes last."""
FIDELITY = ("average-drop", "complexity", "increase", "average-gain")


@dataclass(frozen=True)
class Step:
    """A command of dualcam, and the file that exists when it is done; ``begun`` exists once it has started."""

    title: str
    command: tuple[str, ...]
    output: Path
    begun: Path | None = None

    @property
    def is_done(self) -> bool:
        """Whether its output is there: outputs are written whole or not at all."""
        return self.output.is_file()

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command as it is run now: with --resume where an earlier run was stopped."""
        return (*self.command, "--resume") if self.begun is not None and self.begun.exists() else self.command


@dataclass(frozen=True)
class Place:
    """Where steps read and write, and whether they do as the published code does.

    ``options`` go to every command that takes a model ("--device", "cuda"); ``weights`` is "pretrained" or "random".
    """

    root: Path
    out: Path
    as_published: bool = False
    weights: str = "pretrained"
    options: tuple[str, ...] = ()

    def folder(self, recipe: Recipe) -> Path:
        """Return the recipe's folder."""
        return self.out / (recipe.name + ("-as-published" if self.as_published else ""))

    def results(self, recipe: Recipe, method: str, *, own_scorer: bool = False) -> Path:
        """Return the folder of a method's figures; ``own_scorer``: those that the sigmoid branch scored itself."""
        return self.folder(recipe) / (f"{method}-own-scorer" if own_scorer else method)


def find_data(root: Path, dataset: str) -> Path:
    """Return the folder of ``dataset`` below ``root``; raises `DataError` naming where it was looked for."""
    names = PLACES.get(dataset, (dataset,))
    for name in names:
        if (root / name).is_dir():
            return root / name
    if (root / "metadata" / dataset).is_dir():
        return root
    places = ", ".join(str(root / name) for name in names)
    raise DataError(
        f"{dataset} is in none of {places}, nor is {root / 'metadata' / dataset}; see --data-root, or --only"
    )


def steps(recipe: Recipe, place: Place, *, fidelity: bool) -> list[Step]:
    """Return the steps from the photos to the figures of ``recipe``, in order; raises `DataError` without its data."""
    data = find_data(place.root, recipe.dataset)
    training = find_data(place.root, recipe.train) if recipe.train else data
    branch = place.folder(recipe) / "branch"
    found: list[Step] = []
    model: tuple[str, ...] = (recipe.model, "--weights", place.weights, "--download")
    if recipe.classifier is not None:
        step = _classifier(recipe, place, training, model)
        found.append(step)
        model = (str(step.output.parent),)
    found.append(_branch(recipe, place, training, model, branch))
    for method in recipe.methods:
        found.append(_evaluation(recipe, place, data, method, fidelity=fidelity))
        if place.as_published and fidelity:
            found.append(_evaluation(recipe, place, data, method, fidelity=True, own_scorer=True))
    return found


def normalization(method: str) -> str:
    """Return how the base method's maps are brought to [0, 1]: CAM by min-max; the others are clamped at 0 first."""
    return "minmax" if method == "cam" else "max"


def _classifier(recipe: Recipe, place: Place, data: Path, model: tuple[str, ...]) -> Step:
    stage = recipe.classifier
    assert stage is not None
    out = place.out / "classifiers" / f"{recipe.dataset}-{recipe.model.replace(':', '-')}-{stage.lr:g}"
    command = (
        *("train-classifier", str(data), "--model", *model, *place.options, "-o", str(out), "--train", stage.part),
        *("--lr", str(stage.lr), "--head-lr-factor", str(stage.head_lr_factor), "--epochs", str(stage.epochs)),
        *("--lr-step", str(stage.lr_step), "--weight-decay", str(stage.weight_decay)),
        *("--batch-size", str(stage.batch_size), "--val-share", "0"),
    )
    return Step(f"{recipe.dataset}, {recipe.model}: classifier", command, out / "classifier.json", out / "state")


def _branch(recipe: Recipe, place: Place, data: Path, model: tuple[str, ...], out: Path) -> Step:
    stage = recipe.branch
    command = [
        *("train", str(data), "--model", *model, *place.options, "-o", str(out)),
        *("--lr", f"{stage.lr * stage.lr_factor:.10g}", "--epochs", str(stage.epochs), "--lr-step", str(stage.lr_step)),
        *("--weight-decay", str(stage.weight_decay), "--batch-size", str(stage.batch_size)),
        *("--val-share", "0"),
    ]
    if place.as_published:
        command += ["--start", "random", "--no-cache", "--frozen-mode", "train"]
    return Step(f"{recipe.name}: branch", tuple(command), out / "dualcam.json", out / "state")


def _evaluation(
    recipe: Recipe, place: Place, data: Path, method: str, *, fidelity: bool, own_scorer: bool = False
) -> Step:
    judged, out = recipe.evaluation, place.results(recipe, method, own_scorer=own_scorer)
    command = [
        *("evaluate", str(data), "--model", str(place.folder(recipe) / "branch"), *place.options, "-o", str(out)),
        *("--method", method, "--normalize", normalization(method), "--mode", "reference"),
        *("--size", str(judged.size), "--threshold", f"{judged.threshold:g}"),
    ]
    if own_scorer:
        command += ["--branch", "sigmoid", "--sign", "positive", "--scored-by", "sigmoid"]
    else:
        command += ["--branch", "softmax", "softmax-centered", "sigmoid"]
    if fidelity:
        command += ["--space", "normalized", "--fidelity", *FIDELITY]
    if place.as_published:
        command += ["--first-box"]
    what = "figures, scored by the branch itself" if own_scorer else "figures"
    return Step(f"{recipe.name}: {method} {what}", tuple(command), out / "results.json")
