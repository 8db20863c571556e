"""The grid: what is compared, and which of its cells are the same by law."""

from collections.abc import Sequence
from itertools import product
from typing import Literal, NamedTuple

import torch

from dualcam import methods
from dualcam.description import check_applicable, usual_methods
from dualcam.errors import check_choice
from dualcam.model import DualBranch
from dualcam.types import Branch, Normalization, Score, Sign

ScoredBranch = Literal[
    "softmax",
    "softmax-centered",
    "softmax-log-odds",
    "softmax-log-probability",
    "softmax-probability",
    "softmax-rest",
    "softmax-finer",
    "sigmoid",
    "sigmoid-finer",
]
BRANCHES: dict[ScoredBranch, tuple[Branch, Score]] = {
    "softmax": ("softmax", "logit"),
    "softmax-centered": ("softmax", "centered"),
    "softmax-log-odds": ("softmax", "log-odds"),
    "softmax-log-probability": ("softmax", "log-probability"),
    "softmax-probability": ("softmax", "probability"),
    "softmax-rest": ("softmax", "rest"),
    "softmax-finer": ("softmax", "finer"),
    "sigmoid": ("sigmoid", "logit"),
    "sigmoid-finer": ("sigmoid", "finer"),
}
USUAL_BRANCHES: tuple[ScoredBranch, ...] = ("softmax", "softmax-centered", "softmax-log-odds", "sigmoid")
PARALLEL: tuple[ScoredBranch, ...] = ("softmax-log-odds", "softmax-log-probability", "softmax-probability")
"""Scores of one gradient's direction: d log p = (1 - p) d log-odds, d p = p d log p."""
SIGNS: tuple[Sign, ...] = ("signed", "positive")
NORMALIZATIONS: tuple[Normalization, ...] = ("minmax", "max", "ivr")


class MapKind(NamedTuple):
    """What makes a raw map."""

    method: str
    branch: ScoredBranch
    sign: Sign


class Cell(NamedTuple):
    """One cell of the grid: a raw map, normalized."""

    kind: MapKind
    normalization: Normalization

    def __str__(self) -> str:
        return f"{self.kind.branch} {self.kind.method} {self.kind.sign} {self.normalization}"


class Grid(NamedTuple):
    """The cells asked for, and for each kind of map the one that stands for it.

    ``same`` maps every kind to the first kind that equals it by law up to a positive factor, which no normalization
    shows: kinds that stand for themselves are computed, the others are their names.
    """

    kinds: tuple[MapKind, ...]
    normalizations: tuple[Normalization, ...]
    same: dict[MapKind, MapKind]

    @property
    def cells(self) -> list[Cell]:
        """All cells."""
        return [Cell(kind, how) for kind in self.kinds for how in self.normalizations]

    @property
    def computed(self) -> list[MapKind]:
        """The kinds that stand for themselves."""
        return [kind for kind in self.kinds if self.same[kind] == kind]

    def position(self, cell: Cell) -> tuple[int, int]:
        """Return where ``cell`` is among the computed: (kind, normalization)."""
        return self.computed.index(self.same[cell.kind]), self.normalizations.index(cell.normalization)


def make_grid(
    model: DualBranch,
    *,
    method: Sequence[str] = (),
    branch: Sequence[str] = USUAL_BRANCHES,
    sign: Sequence[str] = SIGNS,
    normalize: Sequence[str] = NORMALIZATIONS,
) -> Grid:
    """Return the grid of the choices; no ``method`` means the usual ones that apply, "score-cam:top_k=64" has numbers.

    Raises `ChoiceError`, `MethodNotApplicable`.

    By law, on a head that is linear in the pooled activations every method whose signed map adds up to the logit
    (CAM, Grad-CAM, XGrad-CAM, LayerCAM) draws CAM's map; an untrained sigmoid branch draws the softmax branch's; and
    log-odds, log p and p have parallel gradients, which a homogeneous method does not tell apart.
    """
    for argument, values, choices in (
        ("branch", branch, tuple(BRANCHES)),
        ("sign", sign, SIGNS),
        ("normalize", normalize, NORMALIZATIONS),
    ):
        check_choice(argument, None if values else values, (None,))
        for value in values:
            check_choice(argument, value, choices)
    names = list(method) or [each.name for each in usual_methods(model.softmax_head)]
    for name in names:
        check_applicable(methods.spelled(name)[0], model)
    asked = {"branch": branch, "sign": sign}
    kinds = tuple(
        MapKind(name, scored, way)
        for scored, name, way in product(BRANCHES, names, SIGNS)
        if scored in asked["branch"] and way in asked["sign"]
    )
    same: dict[MapKind, MapKind] = {}
    first: dict[tuple[str, str, str], MapKind] = {}
    untrained = _is_clone(model)
    for kind in kinds:
        how, _ = methods.spelled(kind.method)
        complete = model.softmax_head.is_linear and how.total is not None
        scored = _twin(kind.branch) if untrained else kind.branch
        if how.homogeneous and scored in PARALLEL:
            scored = PARALLEL[0]
        if not how.per_class:
            scored = "softmax"
        same[kind] = first.setdefault(("complete" if complete else kind.method, scored, kind.sign), kind)
    return Grid(kinds, tuple(how for how in NORMALIZATIONS if how in normalize), same)


def _twin(branch: ScoredBranch) -> ScoredBranch:
    """Return the softmax branch of the same score."""
    return next(each for each, (_, score) in BRANCHES.items() if score == BRANCHES[branch][1])


def _is_clone(model: DualBranch) -> bool:
    pairs = zip(model.softmax_head.parameters(), model.sigmoid_head.parameters(), strict=True)
    return all(torch.equal(ours, theirs) for ours, theirs in pairs)
