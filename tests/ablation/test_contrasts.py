"""Heads as data, and what is compared with what."""

from itertools import product

import pytest
import torch

import dualcam
from dualcam.ablation.contrasts import Combination, make_contrasts, plain_and_dual
from dualcam.ablation.heads import HEADS, choose_heads, ingredient
from dualcam.errors import ChoiceError
from dualcam.evaluation.cells import BRANCHES, NORMALIZATIONS, SIGNS
from dualcam.model import clone_head
from dualcam.training.settings import TrainingSettings
from tests.models import PREPROCESSING, images, tiny

ALL = [
    Combination(head, method, sign, how)
    for head, method, sign, how in product(HEADS, ("cam", "grad-cam++"), SIGNS, NORMALIZATIONS)
]
SETTING = {"start": "start", "solver": "solver", "balance": "balance", "head": "head"}


def differing(before: Combination, after: Combination) -> list[str]:
    return [field for field in Combination._fields if getattr(before, field) != getattr(after, field)]


def test_every_head_is_a_branch_and_settings_that_exist() -> None:
    for head in HEADS.values():
        assert head.branch in BRANCHES
        assert (head.branch == "sigmoid") == (head.changes is not None)
        TrainingSettings(**(head.changes or {}))


def test_heads_differ_in_one_ingredient_or_are_not_compared() -> None:
    assert ingredient("softmax", "sigmoid") == ingredient("sigmoid", "log-odds") == "head"
    assert ingredient("softmax", "centered") == "head"
    assert ingredient("sigmoid", "sigmoid-random") == ingredient("sigmoid-random", "sigmoid-centered") == "start"
    assert ingredient("sigmoid", "sigmoid-optimum") == "solver"
    assert ingredient("sigmoid-unbalanced", "sigmoid") == "balance"
    assert ingredient("softmax", "sigmoid-random") is None
    assert ingredient("sigmoid-random", "sigmoid-optimum") is None
    assert all(ingredient(name, name) is None for name in HEADS)


def test_a_contrast_changes_its_ingredient_alone() -> None:
    fields = {"clamp": "sign", "normalization": "normalization", "method": "method"}
    for contrast in make_contrasts(ALL):
        if contrast.ingredient == "all":
            continue
        field = fields.get(contrast.ingredient, "head")
        assert {tuple(differing(*pair)) for pair in contrast.pairs} == {(field,)}
        assert {(getattr(a, field), getattr(b, field)) for a, b in contrast.pairs} == {
            (contrast.before, contrast.after)
        }


def test_no_contrast_is_missing_or_repeated() -> None:
    found = [(item.section, item.ingredient, item.before, item.after) for item in make_contrasts(ALL)]
    assert len(found) == len(set(found))
    counts = {section: sum(item[0] == section for item in found) for section, *_ in found}
    changed = 7 + 1 + 2 + 1  # heads from the recipe's, the clamp, two normalizations, a method
    assert counts == {"from the plain map": 3 + 1 + 2 + 1 + 1, "from the dual branch": changed, "on average": changed}
    assert {item[1] for item in found} == {*SETTING, "clamp", "normalization", "method", "all"}


def test_the_average_is_over_every_pair() -> None:
    for contrast in make_contrasts(ALL):
        if contrast.section == "on average":
            naive = {
                (a, b)
                for a, b in product(ALL, repeat=2)
                if len(differing(a, b)) == 1
                and getattr(a, differing(a, b)[0]) == contrast.before
                and getattr(b, differing(a, b)[0]) == contrast.after
            }
            assert set(contrast.pairs) == naive
            assert len(contrast.pairs) == len(ALL) // {"clamp": 2, "normalization": 3, "method": 2}.get(
                contrast.ingredient, len(HEADS)
            )


def test_a_study_without_the_bases_compares_what_is_left() -> None:
    only = [item for item in ALL if item.head == "softmax" and item.sign == "signed"]
    assert plain_and_dual(only) == (only[0], None)
    assert {item.section for item in make_contrasts(only)} == {"from the plain map"}
    assert make_contrasts([item for item in ALL if item.head == "centered"]) == []


def test_a_head_that_is_not_linear_has_no_optimum() -> None:
    model = dualcam.wrap(tiny("mlp"), preprocessing=PREPROCESSING)
    assert choose_heads((), model) == tuple(name for name in HEADS if name != "sigmoid-optimum")
    with pytest.raises(ChoiceError, match=r"sigmoid-optimum.*mlp"):
        choose_heads(("sigmoid-optimum",), model)
    with pytest.raises(ChoiceError, match="sigmoid-random"):
        choose_heads(("sigmod",), model)
    assert choose_heads(("sigmoid", "softmax"), model) == ("softmax", "sigmoid")


def test_a_centered_start_has_the_softmax_of_a_clone_and_other_rows() -> None:
    """Subtracting the mean row shifts all logits of a photo alike."""
    model = dualcam.wrap(tiny("pooled-linear"), preprocessing=PREPROCESSING)
    clone, centered = clone_head(model, "clone"), clone_head(model, "centered")
    with torch.no_grad():
        activations = model.activations(images(4))
        ours, theirs = clone(activations), centered(activations)
    torch.testing.assert_close(ours.softmax(1), theirs.softmax(1), rtol=1e-12, atol=1e-14)
    assert float((ours - theirs).abs().min()) > 1e-3
    torch.testing.assert_close(theirs.mean(1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
