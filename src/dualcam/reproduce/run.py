"""Run what is missing for a table, then write it."""

import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualcam.datasets import evaluation_split, splits
from dualcam.errors import ChoiceError, DataError
from dualcam.files import write_json
from dualcam.reproduce.plan import Place, Step, find_data, steps
from dualcam.reproduce.published import caveat, datasets
from dualcam.reproduce.recipe import SMALL, Recipe, recipes
from dualcam.reproduce.tables import Line, read_lines

Say = Callable[[str], None]
MADE_OF = "made_of.json"
BROKEN_INPUTS, INTERRUPTED = 1, 130
"""Exit codes of a command that left broken photos out, and of one that was interrupted."""
NOTES = (
    "percent; base: the method on the softmax branch, signed; dual branch: positive evidence on the sigmoid branch; "
    "difference: dual less base on the same photos, 95 % paired bootstrap interval; over clamp: dual less the clamp "
    "alone, which is what training brings. Without any training: clamp alone, the softmax branch's positive evidence; "
    "centered, its signed map of the logit less the mean of all logits; and without a look at the photo: a centre box, "
    "of the area that is best where thresholds are chosen, or a Gaussian blob as map. Complexity is the share of the "
    "photo that a map covers. ↑ higher is better, ↓ lower. Maps are scored by the frozen softmax branch, masks in "
    "normalized space; boxes as in the reference evaluation."
)
AS_PUBLISHED = (
    " As published: branches from a random start, one new crop of each photo an epoch, batch statistics and dropout in "
    "the frozen part while they are trained; the first true box only; MaxBoxAccV2 at the threshold that is best on the "
    "reported photos; the dual branch's fidelity scored by the sigmoid branch itself, which can not be compared with "
    "the base's: beside it stand the same maps scored by the softmax branch, and a blob scored by the sigmoid branch. "
    "Not repeated: the drift of the published classifier's running statistics meanwhile; maps and scores "
    "are the classifier's own."
)


@dataclass
class Outcome:
    """Titles of the steps that failed, of those left out because they need one that did, and with broken photos."""

    failed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


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


def with_data(chosen: Iterable[Recipe], place: Place) -> tuple[tuple[Recipe, ...], dict[str, str]]:
    """Return the recipes whose datasets are there, and why the others' are not, by dataset."""
    present, missing = [], {}
    for recipe in chosen:
        try:
            steps(recipe, place, fidelity=False)
            check_reported(recipe, place)
        except DataError as error:
            missing[recipe.dataset] = str(error)
        else:
            present.append(recipe)
    return tuple(present), missing


def check_reported(recipe: Recipe, place: Place) -> None:
    """Raise `DataError` where the recipe's figures would be of the photos that it is trained on."""
    data = find_data(place.root, recipe.dataset)
    if recipe.train is None and not data.test and evaluation_split(data.folder) is None:
        there = ", ".join(splits(data.folder)) or "no splits"
        raise DataError(f"{data.folder} has no test and no val split to report on; it has {there}")


def check_made_of(todo: Iterable[Step]) -> None:
    """Raise `ChoiceError` where a step's folder holds, in part or whole, what other settings made."""
    made: dict[Path, dict[str, Any]] = {}
    for step in todo:
        folder = step.output.parent
        if step.made_of is None:
            continue
        now = _as_json(step.made_of)
        before = made.setdefault(folder, _read_made_of(folder) or now)
        if before != now:
            raise ChoiceError(
                f"{folder} was made with other settings ({_changes(before, now)}); take another folder (-o), or remove "
                "this one"
            )


def run_steps(todo: Sequence[Step], run: Callable[[Sequence[str]], int], say: Say) -> Outcome:
    """Run the steps that are not done, in order, by ``run`` (arguments -> exit code); tell each one's command.

    Where a command ends badly, the steps that need its output are left out and the others go on. Raises
    `KeyboardInterrupt` where one was interrupted. The same call goes on from there.
    """
    outcome = Outcome()
    lost: set[Path] = set()
    for number, step in enumerate(todo, 1):
        head = f"[{number}/{len(todo)}] {step.title}"
        if step.is_done:
            say(f"{head}: done already")
            continue
        if lost.intersection(step.needs):
            lost.add(step.output)
            outcome.left_out.append(step.title)
            say(f"{head}: left out, as it needs a step that failed")
            continue
        say(f"{head}\n    dualcam {shlex.join(step.arguments)}")
        if step.made_of is not None:
            write_json(step.output.parent / MADE_OF, step.made_of)
        code = run(step.arguments)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if not step.output.is_file():
            lost.add(step.output)
            outcome.failed.append(step.title)
            say(f"{head}: ended with exit code {code}; its message stands above")
        elif code == BROKEN_INPUTS:
            outcome.broken.append(step.title)
    return outcome


def collect(table: str, chosen: Iterable[Recipe], place: Place) -> list[Line]:
    """Return the table's lines from the results on disk, and let each branch's card tell its figures."""
    from dualcam.card import write_card

    lines: list[Line] = []
    for recipe in chosen:
        found, fidelity = read_lines(recipe, place, table), table != "table2"
        if found:
            method = next(line.method for line in found)
            write_card(place.folder(recipe) / "branch", place.results(recipe, method, fidelity=fidelity))
        lines += found
    return lines


def notes(place: Place, lines: Iterable[Line], missing: Iterable[str] = ()) -> str:
    """Return what a reader of the table has to know; ``missing`` is what it lacks."""
    told = NOTES + (AS_PUBLISHED if place.as_published else "")
    if any(line.published for line in lines):
        told += f" Published: base -> dual branch; {caveat()}."
    lacking = "; ".join(missing)
    return f"{told} NOT MEASURED: {lacking}." if lacking else told


def _as_json(content: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps(content)))


def _read_made_of(folder: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((folder / MADE_OF).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _changes(before: dict[str, Any], now: dict[str, Any], inside: str = "") -> str:
    """Return the differences in words, field by field where both are records."""
    found = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found.append(_changes(old, new, f"{inside}{name}."))
        elif old != new:
            found.append(f"{inside}{name}: {old!r} then, {new!r} now")
    return "; ".join(filter(None, found))
