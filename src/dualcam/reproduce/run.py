"""Run what is missing for a table, then write it."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dualcam.card import write_card
from dualcam.errors import DualcamError
from dualcam.reproduce.plan import Place, Step, steps
from dualcam.reproduce.published import caveat, datasets
from dualcam.reproduce.recipe import SMALL, Recipe, recipes
from dualcam.reproduce.tables import Line, read_lines

Say = Callable[[str], None]
NOTES = (
    "percent; base: the method on the softmax branch, signed; dual branch: positive evidence on the sigmoid branch; "
    "difference: dual less base on the same photos, 95 % paired bootstrap interval; over clamp: dual less the clamp "
    "alone, which is what training brings. Without any training: clamp alone, the softmax branch's positive evidence; "
    "centered, its signed map of the logit less the mean of all logits; and without a look at the photo: a centre box, "
    "of the area that is best where thresholds are chosen, or a Gaussian blob as map. Better the lower: Average Drop, "
    "Complexity (the share of the photo that a map covers). Every map is scored by the frozen softmax branch, masks in "
    "normalized space; boxes as in the reference evaluation."
)
AS_PUBLISHED = (
    " As published: branches from a random start, new crops in every epoch, batch statistics and dropout in the "
    "frozen part while they are trained; the first true box only; the dual branch's fidelity scored by the sigmoid "
    "branch itself, which can not be compared with the base's. Not repeated: the drift of the published classifier's "
    "running statistics meanwhile; maps and scores are the classifier's own."
)


def candidates(table: str) -> tuple[Recipe, ...]:
    """Return the recipes of ``table``: "table1", "table2", or "small"."""
    if table == "small":
        return tuple(recipes(SMALL).values())
    return tuple(recipe for recipe in recipes().values() if recipe.dataset in datasets(table))


def plan(table: str, chosen: Iterable[Recipe], place: Place) -> list[Step]:
    """Return the steps of ``chosen``, each once: recipes may share a classifier."""
    found: dict[Path, Step] = {}
    for recipe in chosen:
        for step in steps(recipe, place, fidelity=table != "table2"):
            found.setdefault(step.output, step)
    return list(found.values())


def run_steps(todo: Sequence[Step], run: Callable[[Sequence[str]], int], say: Say) -> None:
    """Run the steps that are not done, in order, by ``run`` (arguments -> exit code); tell each one's command.

    Raises `DualcamError` where a command ends badly: the same call goes on from there.
    """
    for number, step in enumerate(todo, 1):
        head = f"[{number}/{len(todo)}] {step.title}"
        if step.is_done:
            say(f"{head}: done already")
            continue
        say(f"{head}\n    dualcam {shlex.join(step.arguments)}")
        code = run(step.arguments)
        if code == 130:
            raise KeyboardInterrupt
        if not step.is_done:
            raise DualcamError(f"{step.title} ended with exit code {code}; the same command goes on from there")


def collect(table: str, chosen: Iterable[Recipe], place: Place) -> list[Line]:
    """Return the table's lines from the results on disk, and let each branch's card tell its figures."""
    lines: list[Line] = []
    for recipe in chosen:
        write_card(place.folder(recipe) / "branch", place.results(recipe, recipe.methods[0]))
        lines += read_lines(recipe, place, table)
    return lines


def notes(place: Place, table: str) -> str:
    """Return what a reader of the table has to know."""
    told = NOTES + (AS_PUBLISHED if place.as_published else "")
    return told if table == "small" else f"{told} Less it: measured less published. Published: {caveat()}."
