"""What softmax leaves free, and which scores do not care: the shift W + 1 d^T, b + beta."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from dualcam.targets import SCORES, SHIFT_FREE
from dualcam.types import Score
from tests.models import explain_planted, maps, plant

CONTROLS: list[Score] = sorted(SHIFT_FREE)
seeds = st.integers(0, 10_000)


def problem(seed: int, *, nonnegative: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return activations [2, 4, 3, 5], class rows [6, 4] and biases [6]."""
    generator = torch.Generator().manual_seed(seed)
    activations = torch.randn(2, 4, 3, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    bias = torch.randn(6, generator=generator, dtype=torch.float64)
    return functional.relu(activations) if nonnegative else activations, weight, bias


@given(seeds, st.floats(-3, 3))
def test_a_shift_leaves_softmax_and_moves_every_map_alike(seed: int, beta: float) -> None:
    activations, weight, bias = problem(seed)
    shift = 3 * torch.randn(4, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    before = explain_planted(activations, weight, bias, method="cam", sign="signed")
    after = explain_planted(activations, weight + shift, bias + beta, method="cam", sign="signed")
    moved = torch.einsum("d,bdhw->bhw", shift, activations).unsqueeze(1)
    assert moved.abs().max() > 1e-3
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one.probabilities, other.probabilities)
    torch.testing.assert_close(maps(after), maps(before) + moved)


@given(seeds)
def test_sign_collapse_empties_the_rectified_map_of_nonnegative_activations(seed: int) -> None:
    activations, weight, bias = problem(seed, nonnegative=True)
    shift = -weight.max(0).values
    before = explain_planted(activations, weight, bias, method="cam", branch="softmax")
    after = explain_planted(activations, weight + shift, bias, method="cam", branch="softmax")
    assert maps(before).abs().max() > 0.1
    assert maps(after).abs().max() == 0
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one.probabilities, other.probabilities)
        assert all(evidence.is_flat for evidence in other)


def test_sign_collapse_needs_nonnegative_activations() -> None:
    activations, weight, bias = problem(1)
    collapsed = explain_planted(activations, weight - weight.max(0).values, bias, method="cam")
    assert maps(collapsed).max() > 0.1


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("score", CONTROLS)
@given(seed=seeds, beta=st.floats(-3, 3))
def test_controls_do_not_see_a_shift(score: Score, opaque: bool, seed: int, beta: float) -> None:
    activations, weight, bias = problem(seed)
    shift = 3 * torch.randn(4, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    options: dict[str, Any] = {"method": "grad-cam", "sign": "signed", "score": score, "opaque": opaque}
    before = maps(explain_planted(activations, weight, bias, **options))
    after = maps(explain_planted(activations, weight + shift, bias + beta, **options))
    assert before.abs().max() > 0
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("score", sorted(set(SCORES) - SHIFT_FREE))
@given(seed=seeds)
def test_the_other_scores_are_not_controls(score: Score, seed: int) -> None:
    activations, weight, bias = problem(seed)
    before = maps(explain_planted(activations, weight, bias, sign="signed", score=score))
    after = maps(explain_planted(activations, weight + 1, bias, sign="signed", score=score))
    assert not torch.allclose(before, after, atol=1e-3)


@given(seed=seeds, beta=st.floats(-3, 3))
def test_finer_against_all_of_the_similar_classes_is_a_control(seed: int, beta: float) -> None:
    activations, weight, bias = problem(seed)
    options: dict[str, Any] = {"sign": "signed", "score": "finer", "tuning": {"gamma": 1, "similar": 2}}
    before = maps(explain_planted(activations, weight, bias, **options))
    after = maps(explain_planted(activations, weight + 1, bias + beta, **options))
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-11)


def test_centered_maps_are_those_of_centered_rows() -> None:
    activations, weight, bias = problem(4)
    centered = maps(explain_planted(activations, weight, bias, method="cam", sign="signed", score="centered"))
    rows = weight - weight.mean(0)
    torch.testing.assert_close(centered, torch.einsum("kd,bdhw->bkhw", rows, activations))


def test_cross_entropy_has_no_gradient_along_the_shift_and_bce_has() -> None:
    activations, weight, bias = problem(5)
    model = plant(activations, weight, bias)
    linear = model.get_submodule("classifier.fc")
    labels = torch.tensor([0, 3])
    logits = model(torch.zeros(2, 3, 3, 5, dtype=torch.float64)).softmax
    rows = next(parameter for name, parameter in linear.named_parameters() if name == "weight")
    (gradient,) = torch.autograd.grad(functional.cross_entropy(logits, labels), rows, retain_graph=True)
    torch.testing.assert_close(gradient.sum(0), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
    targets = functional.one_hot(labels, 6).double()
    (gradient,) = torch.autograd.grad(functional.binary_cross_entropy_with_logits(logits, targets), rows)
    assert gradient.sum(0).abs().max() > 1e-3
