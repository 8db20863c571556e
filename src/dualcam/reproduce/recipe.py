"""Recipes: one YAML file per dataset, backbone and method, with every number that a run depends on.

Sources: the learning rates and schedules that the paper's authors published with their code; percentiles and
thresholds of the localization literature. A file of one's own takes the same fields.
"""

import math
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import yaml

from dualcam.errors import ChoiceError, check_choice

FOLDER = Path(__file__).parent / "recipes"
SMALL = Path(__file__).parent / "small"
LEAST = {"batch_size": 1, "size": 32, "lr": 1e-12, "lr_factor": 1e-12, "head_lr_factor": 1e-12}
"""The least value of a number; else 0."""
Part = TypeVar("Part")


@dataclass(frozen=True)
class ClassifierRecipe:
    """Stage one: SGD with Nesterov momentum; ``head_lr_factor`` times the rate for layers without pretrained weights.

    ``part``: "all", or the last layer alone ("head"). The rate falls to a tenth every ``lr_step`` epochs.
    """

    part: str
    lr: float
    head_lr_factor: float
    epochs: int
    lr_step: int
    weight_decay: float
    batch_size: int


@dataclass(frozen=True)
class BranchRecipe:
    """The sigmoid branch: the rate is ``lr`` times ``lr_factor``, which the published code's optimizer applies."""

    lr: float
    lr_factor: float
    epochs: int
    lr_step: int
    weight_decay: float
    batch_size: int


@dataclass(frozen=True)
class EvaluationRecipe:
    """Input side in pixels, and the fixed threshold of the Loc figures, as a share of the map's maximum."""

    size: int
    threshold: float


@dataclass(frozen=True)
class Recipe:
    """How one backbone is trained and judged on one dataset.

    ``methods`` share the branch. ``model`` is a name for `dualcam.wrap`; ``classifier`` is None where its pretrained
    weights classify as they are; ``train`` names another dataset to train on.
    """

    name: str
    dataset: str
    backbone: str
    methods: tuple[str, ...]
    model: str
    classifier: ClassifierRecipe | None
    branch: BranchRecipe
    evaluation: EvaluationRecipe
    train: str | None = None


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file; raises `ChoiceError` that names the file and the field."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ChoiceError(f"{path} is no recipe: {error}") from error
    known = {field.name for field in fields(Recipe)} - {"name", "train"}
    content = _checked(path, "the recipe", content, known, optional=frozenset({"train"}))
    stage = content["classifier"]
    names = {name: content.get(name) for name in ("dataset", "backbone", "model", *({"train"} & content.keys()))}
    for name, value in names.items():
        if not isinstance(value, str) or not value:
            raise ChoiceError(f"{path}: {name} is {value!r}; expected a name")
    return Recipe(
        name=path.stem,
        dataset=content["dataset"],
        backbone=content["backbone"],
        methods=_methods(path, content["methods"]),
        model=content["model"],
        classifier=None if stage is None else _part(path, "classifier", stage, ClassifierRecipe),
        branch=_part(path, "branch", content["branch"], BranchRecipe),
        evaluation=_part(path, "evaluation", content["evaluation"], EvaluationRecipe),
        train=content.get("train"),
    )


@cache
def recipes(folder: Path = FOLDER) -> MappingProxyType[str, Recipe]:
    """Return the recipes in ``folder`` by name: the paper's, or those of `SMALL`, which a laptop can run."""
    return MappingProxyType({path.stem: read_recipe(path) for path in sorted(folder.glob("*.yaml"))})


def choose(only: tuple[str, ...], candidates: tuple[Recipe, ...]) -> tuple[Recipe, ...]:
    """Return the ``candidates`` that ``only`` names, by dataset, backbone or method ("cub", "resnet50", "gradcam").

    A word may be a recipe's whole name; commas join words; capitals, hyphens and underscores do not count. Words of
    one kind widen the choice: cub and cars are both datasets. Raises `ChoiceError` where a word names nothing, or none
    is left.
    """
    words = {_plain(word) for joined in only for word in joined.split(",") if word.strip()}
    kinds = [{word for recipe in candidates for word in _words(recipe)[kind]} for kind in range(4)]
    strange = sorted(word for word in words if not any(word in kind for kind in kinds))
    if strange:
        known = "; ".join(
            f"{what} {', '.join(dict.fromkeys(recipe.name.split('-')[place] for recipe in candidates))}"
            for place, what in enumerate(("datasets", "backbones", "methods"))
            if all(recipe.name.count("-") >= place for recipe in candidates)
        )
        raise ChoiceError(f"--only {', '.join(strange)}: no dataset, backbone or method here; there are {known}")
    wanted = [kind & words or kind for kind in kinds]
    found = tuple(
        recipe
        for recipe in candidates
        if all(want.intersection(own) for want, own in zip(wanted, _words(recipe), strict=True))
    )
    if not found:
        raise ChoiceError(f"no recipe is all of {', '.join(sorted(words))}; leave one out")
    return found


def _words(recipe: Recipe) -> tuple[set[str], ...]:
    """Return what names a recipe's dataset, its backbone, its methods, and the recipe itself."""
    dataset, _, rest = recipe.name.partition("-")
    backbone, _, method = rest.partition("-")
    given = ((dataset, recipe.dataset), (backbone, recipe.backbone), (method, recipe.methods[0]), (recipe.name,))
    return tuple({_plain(word) for word in words if word} for words in given)


def _plain(word: str) -> str:
    return word.strip().lower().replace("-", "").replace("_", "")


def _methods(path: Path, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ChoiceError(f"{path}: methods is {value!r}; expected a list, such as [cam] or [grad-cam, layer-cam]")
    if path.parent not in (FOLDER, SMALL):  # those are tested; methods load PyTorch
        from dualcam import methods

        for name in value:
            check_choice(f"{path}: methods", name, methods.available())
    return tuple(value)


def _part(path: Path, name: str, content: Any, kind: type[Part]) -> Part:
    known = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    content = _checked(path, name, content, set(known))
    values = {}
    for field, value in content.items():
        where = f"{path}: {name}.{field}"
        if known[field] is str:
            check_choice(where, value, ("all", "head"))
            values[field] = value
        else:
            values[field] = _number(where, value, whole=known[field] is int, least=LEAST.get(field, 0))
    if values.get("threshold", 0) >= 1:
        raise ChoiceError(
            f"{path}: {name}.threshold is {values['threshold']!r}; expected a share of the maximum, below 1"
        )
    return kind(**values)


def _number(where: str, value: Any, *, whole: bool, least: float) -> float:
    """Return ``value`` as a number of at least ``least``: YAML reads 1e-4, without a point, as text."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not least <= number < math.inf:
        raise ChoiceError(f"{where} is {value!r}; expected a number of at least {least:g}")
    if not whole:
        return number
    if number != int(number):
        raise ChoiceError(f"{where} is {value!r}; expected a whole number")
    return int(number)


def _checked(
    path: Path, name: str, content: Any, known: set[str], *, optional: frozenset[str] = frozenset()
) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ChoiceError(f"{path}: {name} is {type(content).__name__}; expected fields {', '.join(sorted(known))}")
    problems = [
        f"{problem} {', '.join(sorted(map(str, names)))}"
        for problem, names in (
            ("does not know", content.keys() - known - optional),
            ("lacks", known - content.keys()),
        )
        if names
    ]
    if problems:
        raise ChoiceError(f"{path}: {name} {' and '.join(problems)}; its fields are {', '.join(sorted(known))}")
    return content
