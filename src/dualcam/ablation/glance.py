"""A study at a glance: what each part of the step to the dual branch brings as the first one, and as the last one.

Parts of a step need not add up: a clamp does nothing to a map without negative evidence and a lot to one that is full
of it. So each part is asked twice, added to the plain map alone and added to all the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dualcam.ablation.contrasts import FROM_DUAL, FROM_PLAIN, the_step
from dualcam.ablation.effects import Estimate
from dualcam.ablation.figures import Effect

STEP, OTHERS = "the step to the dual branch", "something else in its place"
FIELDS = {"head": "head", "clamp": "sign", "normalization": "normalization"}
Figures = Mapping[str, Estimate]


@dataclass(frozen=True)
class Line:
    """One change, by metric: what it brings to the plain map, ``first``, and to the dual branch, ``last``.

    Lines of `STEP` are its parts, where ``last`` is what the dual branch would lose without it, and all parts at once;
    lines of `OTHERS` put another value where the plain map and the dual branch have theirs. None: not compared.
    """

    section: str
    name: str
    first: Figures | None
    last: Figures | None


def lines_of(effects: Sequence[Effect]) -> list[Line]:
    """Return the lines that the study's ``effects`` have figures for, those of the step first."""
    first = {_key(effect): effect.figures for effect in effects if effect.contrast.section == FROM_PLAIN}
    last = {_key(effect): effect.figures for effect in effects if effect.contrast.section == FROM_DUAL}
    plain, dual = the_step("")
    lines = [Line(STEP, "all three", first.pop(key), None) for key in list(first) if key[0] == "all"]
    for ingredient, field in FIELDS.items():
        before, after = getattr(plain, field), getattr(dual, field)
        added, taken = first.pop((ingredient, after), None), last.pop((ingredient, before), None)
        lines.append(Line(STEP, f"{ingredient}: {before} → {after}", added, taken and _reversed(taken)))
    lines += [
        Line(OTHERS, f"{key[0]}: {key[1]}", first.get(key), last.get(key)) for key in dict.fromkeys([*first, *last])
    ]
    return [line for line in lines if line.first or line.last]


def _key(effect: Effect) -> tuple[str, str]:
    return effect.contrast.ingredient, effect.contrast.after


def _reversed(figures: Figures) -> Figures:
    return {metric: figure.reversed() for metric, figure in figures.items()}
