"""Recipes: one YAML file per dataset, backbone and method, with every number that a run depends on.

Sources: the learning rates and schedules that the paper's authors published with their code; percentiles and
thresholds of the localization literature. A file of one's own takes the same fields.
"""

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import yaml

from dualcam.errors import ChoiceError, check_choice

FOLDER = Path(__file__).parent / "recipes"
SMALL = Path(__file__).parent / "small"
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
    except (OSError, yaml.YAMLError) as error:
        raise ChoiceError(f"{path} is no recipe: {error}") from error
    known = {field.name for field in fields(Recipe)} - {"name", "train"}
    content = _checked(path, "the recipe", content, known, optional=frozenset({"train"}))
    stage = content["classifier"]
    return Recipe(
        name=path.stem,
        dataset=str(content["dataset"]),
        backbone=str(content["backbone"]),
        methods=tuple(content["methods"]),
        model=str(content["model"]),
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
    """Return the ``candidates`` of which every word of ``only`` is a part of the name ("cub", "resnet50", "gradcam").

    Words of the same kind widen the choice: cub and cars are both datasets. Raises `ChoiceError` where none is left.
    """
    parts = [{recipe.name.split("-")[place] for recipe in candidates} for place in range(3)]
    strange = [word for word in only if not any(word in part for part in parts)]
    if strange:
        known = ", ".join(sorted(set().union(*parts)))
        raise ChoiceError(f"--only {' '.join(strange)} is no dataset, backbone or method here; there are {known}")
    wanted = [part & set(only) or part for part in parts]
    found = tuple(
        recipe
        for recipe in candidates
        if all(word in want for word, want in zip(recipe.name.split("-"), wanted, strict=True))
    )
    if not found:
        raise ChoiceError(f"no recipe is all of {', '.join(only)}")
    return found


def _part(path: Path, name: str, content: Any, kind: type[Part]) -> Part:
    known = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    content = _checked(path, name, content, set(known))
    for field, value in content.items():
        if known[field] is str:
            check_choice(f"{path}: {name}.{field}", value, ("all", "head"))
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ChoiceError(f"{path}: {name}.{field} is {value!r}; expected a number that is not negative")
        if known[field] is int and value != int(value):
            raise ChoiceError(f"{path}: {name}.{field} is {value!r}; expected a whole number")
    return kind(**content)


def _checked(
    path: Path, name: str, content: Any, known: set[str], *, optional: frozenset[str] = frozenset()
) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ChoiceError(f"{path}: {name} is {type(content).__name__}; expected fields {', '.join(sorted(known))}")
    for problem, names in (("lacks", known - content.keys()), ("does not know", content.keys() - known - optional)):
        if names:
            raise ChoiceError(f"{path}: {name} {problem} {', '.join(sorted(map(str, names)))}")
    return content
