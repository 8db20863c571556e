"""What a table or figure needs, as commands: each could be typed by hand, and each goes on where it was stopped."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dualcam.errors import DataError
from dualcam.reproduce.recipe import Recipe

PLACES = {
    "CUB": ("CUB", "CUB_200_2011", "cub"),
    "CARS": ("CARS", "stanford_cars", "StanfordCars", "cars"),
    "ILSVRC": ("ILSVRC", "ImageNet", "imagenet"),
    "OpenImages": ("OpenImages", "OpenImages30K", "openimages"),
}
"""Folders below the data root in which a dataset is looked for, after the root's own ``metadata/<dataset>``."""
FIDELITY = ("average-drop", "complexity", "increase", "average-gain")


@dataclass(frozen=True)
class Step:
    """A command of dualcam, and the file that exists when it is done; ``begun`` exists once it has started.

    ``needs`` are outputs of steps before it. ``made_of`` is all that a training's result depends on.
    """

    title: str
    command: tuple[str, ...]
    output: Path
    begun: Path | None = None
    needs: tuple[Path, ...] = ()
    made_of: dict[str, Any] | None = None

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

    ``options`` go to every command that takes a model ("--device", "cuda"), ``loading`` to those that load many photos
    ("--workers", "8"), ``sharing`` to those that many processes can share ("--devices", "8"), ``classifying`` to stage
    one ("--precision", "bf16-mixed"); none of them decides what is computed. ``weights``: "pretrained" or "random".
    Not ``cached``: photos go through the frozen network in every epoch.
    """

    root: Path
    out: Path
    as_published: bool = False
    weights: str = "pretrained"
    options: tuple[str, ...] = ()
    loading: tuple[str, ...] = ()
    sharing: tuple[str, ...] = ()
    classifying: tuple[str, ...] = ()
    cached: bool = True

    def folder(self, recipe: Recipe) -> Path:
        """Return the recipe's folder."""
        return self.out / (recipe.name + ("-as-published" if self.as_published else ""))

    def results(self, recipe: Recipe, method: str, *, fidelity: bool, own_scorer: bool = False) -> Path:
        """Return the folder of a method's figures, with or without ``fidelity``.

        ``own_scorer``: those that the sigmoid branch scored itself.
        """
        name = f"{method}-own-scorer" if own_scorer else method if fidelity else f"{method}-localization"
        return self.folder(recipe) / name


@dataclass(frozen=True)
class Data:
    """A dataset's folder, and which of its splits are meant where it holds several datasets (else none)."""

    folder: Path
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


def find_data(root: Path, dataset: str) -> Data:
    """Return where ``dataset`` lies below ``root``; raises `DataError` naming where it was looked for."""
    if not root.is_dir():
        raise DataError(f"--data-root {root} is {'a file' if root.exists() else 'not there'}; expected a folder")
    if (root / "metadata" / dataset).is_dir():
        return _in_metadata(root, dataset)
    names = PLACES.get(dataset, (dataset,))
    for name in names:
        if (root / name).is_dir():
            return Data(root / name)
    places = ", ".join((*names, f"metadata/{dataset}"))
    raise DataError(f"{dataset} is not in {root}: there is none of {places}; see --data-root, or choose with --only")


def _in_metadata(root: Path, dataset: str) -> Data:
    """Return the splits of one dataset in a folder of WSOL metadata, which may hold several."""
    from dualcam.datasets import TEST_SPLITS, TRAIN_SPLITS, VAL_SPLITS, choose_split, splits

    own = [name for name in splits(root) if name.startswith(f"{dataset}/")]

    def chosen(wanted: Sequence[str]) -> tuple[str, ...]:
        there = any(name.rpartition("/")[2] in wanted for name in own)
        return ("--split", choose_split(root, None, own, wanted)) if there else ()

    data = Data(root, chosen(TRAIN_SPLITS), chosen(TEST_SPLITS) or chosen(VAL_SPLITS))
    if not data.test:
        home = root / "metadata" / dataset
        raise DataError(f"{home} has no test and no val split to report on; it has {', '.join(own) or 'no splits'}")
    return data


def steps(recipe: Recipe, place: Place, *, fidelity: bool) -> list[Step]:
    """Return the steps from the photos to the figures of ``recipe``, in order; raises `DataError` without its data."""
    data = find_data(place.root, recipe.dataset)
    training = find_data(place.root, recipe.train) if recipe.train else data
    found: list[Step] = []
    model: tuple[str, ...] = (recipe.model, "--weights", place.weights, "--download")
    needs: tuple[Path, ...] = ()
    if recipe.classifier is not None:
        step = _classifier(recipe, place, training, model)
        found.append(step)
        model, needs = (str(step.output.parent),), (step.output,)
    found.append(_branch(recipe, place, training, model, needs))
    for method in recipe.methods:
        found.append(_evaluation(recipe, place, data, method, fidelity=fidelity))
        if place.as_published and fidelity:
            found.append(_evaluation(recipe, place, data, method, fidelity=True, own_scorer=True))
    return found


def normalization(method: str) -> str:
    """Return how the base method's maps are brought to [0, 1]: CAM by min-max; the others are clamped at 0 first."""
    return "minmax" if method == "cam" else "max"


def _made_of(recipe: Recipe, place: Place, *stages: str) -> dict[str, Any]:
    """Return what the result of ``stages`` depends on, by the names of the recipe's fields."""
    content = asdict(recipe)
    kept = {name: content[name] for name in ("dataset", "train", "model", *stages)}
    return kept | {"weights": place.weights, "size": recipe.evaluation.size}


def _classifier(recipe: Recipe, place: Place, data: Data, model: tuple[str, ...]) -> Step:
    stage = recipe.classifier
    assert stage is not None
    out = place.out / "classifiers" / f"{recipe.dataset}-{recipe.model.replace(':', '-')}-{stage.lr:g}"
    command = (
        *("train-classifier", str(data.folder), *data.train, "--model", *model),
        *(*place.options, *place.loading, *place.sharing, *place.classifying, "-o", str(out), "--train", stage.part),
        *("--size", str(recipe.evaluation.size)),
        *("--lr", str(stage.lr), "--head-lr-factor", f"{stage.head_lr_factor:g}", "--epochs", str(stage.epochs)),
        *("--lr-step", str(stage.lr_step), "--weight-decay", str(stage.weight_decay)),
        *("--batch-size", str(stage.batch_size), "--val-share", "0"),
    )
    title, made_of = f"{recipe.dataset}, {recipe.model}: classifier", _made_of(recipe, place, "classifier")
    return Step(title, command, out / "classifier.json", out / "state", made_of=made_of)


def _branch(recipe: Recipe, place: Place, data: Data, model: tuple[str, ...], needs: tuple[Path, ...]) -> Step:
    stage, out = recipe.branch, place.folder(recipe) / "branch"
    sharing = () if place.as_published else place.sharing  # statistics of a batch are those of the whole batch
    command = [
        *("train", str(data.folder), *data.train, "--model", *model),
        *(*place.options, *place.loading, *sharing, "-o", str(out), "--size", str(recipe.evaluation.size)),
        *("--lr", f"{stage.lr * stage.lr_factor:.10g}", "--epochs", str(stage.epochs), "--lr-step", str(stage.lr_step)),
        *("--weight-decay", str(stage.weight_decay), "--batch-size", str(stage.batch_size)),
        *("--val-share", "0"),
    ]
    if place.as_published:
        command += ["--start", "random", "--no-cache", "--views", "1", "--frozen-mode", "train"]
    elif not place.cached:
        command += ["--no-cache"]
    made_of = _made_of(recipe, place, "classifier", "branch") | {"cached": place.cached}
    return Step(f"{recipe.name}: branch", tuple(command), out / "dualcam.json", out / "state", needs, made_of)


def _evaluation(
    recipe: Recipe, place: Place, data: Data, method: str, *, fidelity: bool, own_scorer: bool = False
) -> Step:
    judged, out = recipe.evaluation, place.results(recipe, method, fidelity=fidelity, own_scorer=own_scorer)
    branch = place.folder(recipe) / "branch"
    command = [
        *("evaluate", str(data.folder), *data.test, "--model", str(branch), *place.options, *place.loading),
        *("-o", str(out)),
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
        command += ["--first-box", "--select", "none"]
    what = "figures, scored by the branch itself" if own_scorer else "figures"
    made_of = _made_of(recipe, place, "evaluation")
    return Step(
        f"{recipe.name}: {method} {what}",
        tuple(command),
        out / "results.json",
        needs=(branch / "dualcam.json",),
        made_of=made_of,
    )
