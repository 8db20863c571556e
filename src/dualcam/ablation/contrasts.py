"""Which combinations are compared, so that a difference is one ingredient's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from dualcam.ablation.heads import ingredient
from dualcam.types import Normalization, Sign


class Combination(NamedTuple):
    """How a map is made: head x method x clamp x normalization."""

    head: str
    method: str
    sign: Sign
    normalization: Normalization

    def __str__(self) -> str:
        return ", ".join(self)


INGREDIENTS = ("head", "start", "solver", "balance", "clamp", "normalization", "method")
"""In the order of the tables; other settings of the recipe come after them."""

FROM_PLAIN, FROM_DUAL, ON_AVERAGE = "from the plain map", "from the dual branch", "on average"


@dataclass(frozen=True)
class Contrast:
    """One ingredient changed, from a value to another, in each of ``pairs`` (before, after) alone."""

    section: str
    ingredient: str
    before: str
    after: str
    pairs: tuple[tuple[Combination, Combination], ...]


def the_step(method: str) -> tuple[Combination, Combination]:
    """Return the plain map and the paper's.

    Plain is the softmax logit's signed map under min-max; the paper's is the sigmoid branch's positive evidence,
    divided by its maximum.
    """
    return Combination("softmax", method, "signed", "minmax"), Combination("sigmoid", method, "positive", "max")


def plain_and_dual(combinations: Sequence[Combination]) -> tuple[Combination | None, Combination | None]:
    """Return both ends of `the_step` for the first method; None where the study left one out."""
    plain, dual = the_step(combinations[0].method)
    return (plain if plain in combinations else None), (dual if dual in combinations else None)


def make_contrasts(combinations: Sequence[Combination]) -> list[Contrast]:
    """Return every change of one ingredient: from the plain map, from the paper's, and on average over all others.

    The average is over every pair of combinations that differ in this one ingredient; it starts at the paper's value.
    """
    plain, dual = plain_and_dual(combinations)
    found: list[Contrast] = []
    if plain is not None:
        found += _from(plain, combinations, FROM_PLAIN)
    if plain is not None and dual is not None:
        found.append(Contrast(FROM_PLAIN, "all", str(plain), str(dual), ((plain, dual),)))
    if dual is not None:
        found += _from(dual, combinations, FROM_DUAL)
        found += _average(dual, combinations)
    return found


def _from(base: Combination, combinations: Sequence[Combination], section: str) -> list[Contrast]:
    changes = [(_change(base, other), other) for other in combinations]
    return _sorted(Contrast(section, *change[1:], ((base, other),)) for change, other in changes if change is not None)


def _average(base: Combination, combinations: Sequence[Combination]) -> list[Contrast]:
    pairs: dict[tuple[str, str, str, str], list[tuple[Combination, Combination]]] = {}
    for before, after in product(combinations, repeat=2):
        change = _change(before, after)
        if change is not None and getattr(base, change[0]) == change[2]:
            pairs.setdefault(change, []).append((before, after))
    return _sorted(Contrast(ON_AVERAGE, *change[1:], tuple(both)) for change, both in pairs.items())


def _change(before: Combination, after: Combination) -> tuple[str, str, str, str] | None:
    """Return (field, ingredient, from, to) where exactly one ingredient differs."""
    differing = [field for field in Combination._fields if getattr(before, field) != getattr(after, field)]
    if len(differing) != 1:
        return None
    field = differing[0]
    old, new = getattr(before, field), getattr(after, field)
    name = ingredient(old, new) if field == "head" else {"sign": "clamp"}.get(field, field)
    return None if name is None else (field, name, old, new)


def _sorted(contrasts: Iterable[Contrast]) -> list[Contrast]:
    order = {name: place for place, name in enumerate(INGREDIENTS)}
    return sorted(contrasts, key=lambda item: order.get(item.ingredient, len(order)))
