"""The paper's figures as commands, on the branches of the recipes.

Figure 1 shows the distortions, Figure 3 maps on fine-grained photos, Figure 4 every CAM variant beside its dual branch,
Figure 5 localization on ImageNet. The paper's own choice of photos is not known; ours are the best, the worst and
random ones by the dual branch's IoU, so that nobody shows only the good ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from dualcam.reproduce.plan import Place, Step, find_data, steps
from dualcam.reproduce.recipe import Recipe, recipes


@dataclass(frozen=True)
class PaperFigure:
    """Which recipes a figure is drawn of, and which methods it shows (empty: the recipe's)."""

    datasets: tuple[str, ...]
    methods: tuple[str, ...] = ()
    distortions: bool = False


FIGURES = {
    "figure1": PaperFigure(("CUB", "ILSVRC"), ("cam",), distortions=True),
    "figure3": PaperFigure(("CUB", "CARS"), ("cam", "grad-cam")),
    "figure4": PaperFigure(("CUB", "CARS"), ("grad-cam", "grad-cam++", "xgrad-cam", "layer-cam")),
    "figure5": PaperFigure(("ILSVRC",), ("cam", "grad-cam")),
}


def figure_recipes(name: str) -> tuple[Recipe, ...]:
    """Return the recipes that the figure ``name`` is drawn of."""
    figure = FIGURES[name]
    return tuple(
        recipe
        for recipe in recipes().values()
        if recipe.dataset in figure.datasets and set(recipe.methods) & set(figure.methods)
    )


def figure_steps(name: str, chosen: Iterable[Recipe], place: Place) -> list[Step]:
    """Return the steps to a branch for each recipe, and the one that draws it."""
    found = []
    for recipe in chosen:
        found += [step for step in steps(recipe, place, fidelity=False) if step.output.name != "results.json"]
        found.append(_draw(name, recipe, place))
    return found


def _draw(name: str, recipe: Recipe, place: Place) -> Step:
    branch, data = place.folder(recipe) / "branch", find_data(place.root, recipe.dataset)
    named, needs = place.folder(recipe).name, (branch / "dualcam.json",)
    if name in FIGURES and FIGURES[name].distortions:
        out = place.out / name / named
        command = ("diagnose", str(branch), str(data.folder), *data.test, *place.options, *place.loading)
        return Step(f"{name}: {named}", (*command, "-o", str(out)), out / "index.html", needs=needs)  # written last
    picture = place.out / name / f"{named}.png"
    shown = FIGURES[name].methods if name in FIGURES else recipe.methods
    methods = [method for method in recipe.methods if method in shown] or recipe.methods
    command = (
        *("figure", str(data.folder), *data.test, "--model", str(branch), *place.options, "-o", str(picture)),
        *("--method", *methods, "--threshold", f"{recipe.evaluation.threshold:g}"),
    )
    return Step(f"{name}: {named}", command, picture, needs=needs)
