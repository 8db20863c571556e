"""The heads that a study compares, as data: a new head is one entry."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dualcam.errors import ChoiceError, check_choice
from dualcam.evaluation.cells import ScoredBranch
from dualcam.model import DualBranch


class AblatedHead(NamedTuple):
    """The score that draws the map, and how the recipe of its branch was changed (None: nothing is trained)."""

    branch: ScoredBranch
    changes: Mapping[str, Any] | None
    told: str


HEADS: dict[str, AblatedHead] = {
    "softmax": AblatedHead("softmax", None, "the classifier's logit"),
    "centered": AblatedHead("softmax-centered", None, "its logit less the mean logit"),
    "log-odds": AblatedHead("softmax-log-odds", None, "its log-odds"),
    "sigmoid": AblatedHead("sigmoid", {}, "the recipe: a clone, trained with class-balanced BCE by SGD"),
    "sigmoid-centered": AblatedHead("sigmoid", {"start": "centered"}, "started at the clone less its mean row"),
    "sigmoid-random": AblatedHead("sigmoid", {"start": "random"}, "started at N(0, 0.01)"),
    "sigmoid-optimum": AblatedHead("sigmoid", {"solver": "lbfgs"}, "solved to the optimum by L-BFGS"),
    "sigmoid-unbalanced": AblatedHead("sigmoid", {"balance": "none"}, "trained with plain BCE"),
}


def choose_heads(names: Sequence[str], model: DualBranch) -> tuple[str, ...]:
    """Return the heads of ``names`` in the order of `HEADS`; no names means all that ``model`` can have.

    A head that is not linear has no optimum to be solved for, and one without a last linear layer starts as a clone.
    Raises `ChoiceError`.
    """
    if not names:
        return tuple(name for name in HEADS if why_not(name, model) is None)
    for name in names:
        check_choice("head", name, HEADS)
        reason = why_not(name, model)
        if reason is not None:
            raise ChoiceError(f"head={name!r} {reason}; leave it out")
    return tuple(name for name in HEADS if name in names)


def why_not(name: str, model: DualBranch) -> str | None:
    """Return why ``model`` can not have the head ``name``, None if it can."""
    changes, head = HEADS[name].changes or {}, model.softmax_head
    if changes.get("solver") == "lbfgs" and not head.is_affine:
        return f"is the optimum of a convex problem, which a linear head poses; this head is {head.kind}"
    if changes.get("start", "clone") != "clone" and head.last_layer() is None:
        return f"starts at other class rows; this head has none: {head.describe_steps()}"
    return None


def ingredient(before: str, after: str) -> str | None:
    """Return the one ingredient in which two heads differ, None where it is none or several.

    It is a setting of the recipe between two trained branches; else "head", if what is trained follows the recipe.
    """
    ours, theirs = HEADS[before], HEADS[after]
    if ours.changes is None or theirs.changes is None:
        return None if ours.changes or theirs.changes or before == after else "head"
    differing = {key for key in {*ours.changes, *theirs.changes} if ours.changes.get(key) != theirs.changes.get(key)}
    return differing.pop() if len(differing) == 1 else None
