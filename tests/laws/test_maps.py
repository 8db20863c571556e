"""Laws of maps under every method and head kind: equivariance, batches, branches, and the two sign policies."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import dualcam
from dualcam import methods
from dualcam.heatmap import combine, weight_parts
from dualcam.tuning import Tuning
from dualcam.types import Evidence, HeadKind, Moments, Probes, Sign
from tests.models import KINDS, ON_CONVOLUTIONS, PREPROCESSING, explain_planted, images, maps, tiny, wrapped

METHODS = sorted(ON_CONVOLUTIONS)
seeds = st.integers(0, 10_000)


def evidence_of(seed: int, *, nonnegative: bool) -> Evidence:
    """Return random evidence of one image, two classes, five channels on 3 x 4 cells; gradients per cell."""
    generator = torch.Generator().manual_seed(seed)
    activations = torch.randn(1, 1, 5, 3, 4, generator=generator, dtype=torch.float64)
    gradients = torch.randn(1, 2, 5, 3, 4, generator=generator, dtype=torch.float64)
    rows = torch.randn(1, 2, 5, 1, 1, generator=generator, dtype=torch.float64)
    probes = Probes(
        images=torch.randn(1, 3, 3, 4, generator=generator, dtype=torch.float64),
        linear=False,
        tuning=Tuning(samples=2, noise=0.0),
        image_scores=permutation_free,
        activation_scores=permutation_free,
        moments=Moments(gradients, gradients**2, gradients**3),
    )
    return Evidence(activations.relu() if nonnegative else activations, gradients, rows, probes)


def permutation_free(changed: Tensor) -> Tensor:
    """Return scores [B, N, 2] of images or activations that do not depend on where a value stands."""
    values = changed.flatten(2)
    return torch.stack((values.tanh().sum(2), values.square().mean(2)), 2)


def map_of(method: str, evidence: Evidence) -> Tensor:
    """Return the signed map [1, 2, 3, 4]."""
    parts = weight_parts(methods.get(method), evidence)
    return combine(parts, evidence.activations, "signed", clamp_weights=True)


@pytest.mark.parametrize("method", METHODS)
@given(seed=seeds, rows=st.integers(0, 2), columns=st.integers(0, 3), flip=st.booleans())
def test_shift_and_flip_of_the_activations_move_the_map_alike(
    method: str, seed: int, rows: int, columns: int, flip: bool
) -> None:
    evidence = evidence_of(seed, nonnegative=False)

    def moved(tensor: Tensor) -> Tensor:
        rolled = tensor.roll((rows, columns), (-2, -1))
        return rolled.flip(-1) if flip else rolled

    probes = evidence.probes
    assert probes is not None
    assert probes.moments is not None
    probes = replace(probes, images=moved(probes.images), moments=Moments(*map(moved, probes.moments)))
    other = Evidence(moved(evidence.activations), moved(evidence.gradients), evidence.class_rows, probes)
    torch.testing.assert_close(map_of(method, other), moved(map_of(method, evidence)), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("opaque", [False, True])
@given(seed=seeds, rows=st.integers(0, 2), columns=st.integers(0, 3))
def test_a_pooled_model_follows_its_activations(opaque: bool, seed: int, rows: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    activations = torch.rand(2, 4, 3, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    bias = torch.randn(5, generator=generator, dtype=torch.float64)
    still = maps(explain_planted(activations, weight, bias, opaque=opaque, method="grad-cam"))
    moving = activations.roll((rows, columns), (2, 3)).flip(3)
    moved = maps(explain_planted(moving, weight, bias, opaque=opaque, method="grad-cam"))
    torch.testing.assert_close(moved, still.roll((rows, columns), (2, 3)).flip(3))


@pytest.mark.parametrize("kind", KINDS)
def test_untrained_branches_are_equal_in_every_map(kind: HeadKind) -> None:
    model = dualcam.wrap(tiny(kind), preprocessing=PREPROCESSING)
    batch = images()
    logits = model.eval()(batch)
    assert torch.equal(logits.softmax, logits.sigmoid)
    for method in METHODS:
        if methods.get(method).needs_rows and not model.softmax_head.is_linear:
            continue
        tuning = {"samples": 2} if "samples" in methods.get(method).reads else {}
        one = maps(model.explain(batch, "all", method=method, branch="softmax", tuning=tuning))
        other = maps(model.explain(batch, "all", method=method, branch="sigmoid", tuning=tuning))
        assert one.abs().max() > 0
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_branches_that_differ_give_maps_that_differ(kind: HeadKind) -> None:
    model = wrapped(kind)
    one = maps(model.explain(images(), "all", branch="softmax", sign="signed"))
    other = maps(model.explain(images(), "all", branch="sigmoid", sign="signed"))
    assert not torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("clamp_weights", [True, False])
@pytest.mark.parametrize("method", METHODS)
@given(seed=seeds)
def test_signed_is_positive_plus_negative(method: str, clamp_weights: bool, seed: int) -> None:
    evidence = evidence_of(seed, nonnegative=False)
    parts = weight_parts(methods.get(method), evidence)
    signed, positive, negative = (
        combine(parts, evidence.activations, sign, clamp_weights=clamp_weights)
        for sign in ("signed", "positive", "negative")
    )
    torch.testing.assert_close(signed, positive + negative)
    if not clamp_weights:
        assert positive.min() >= 0
        assert negative.max() <= 0


@pytest.mark.parametrize("sign", ["positive", "negative"])
@pytest.mark.parametrize("method", METHODS)
@given(seed=seeds)
def test_contribution_clamp_is_weight_clamp_where_activations_are_nonnegative(
    method: str, sign: str, seed: int
) -> None:
    evidence = evidence_of(seed, nonnegative=True)
    parts = weight_parts(methods.get(method), evidence)
    by_weight, by_contribution = (
        combine(parts, evidence.activations, sign, clamp_weights=clamp)  # type: ignore[arg-type]
        for clamp in (True, False)
    )
    torch.testing.assert_close(by_weight, by_contribution)


@given(seeds)
def test_contribution_clamp_is_cell_by_cell(seed: int) -> None:
    evidence = evidence_of(seed, nonnegative=False)
    for weights in (evidence.gradients, evidence.class_rows):
        assert weights is not None
        parts = (weights,)
        contributions = weights * evidence.activations
        found = combine(parts, evidence.activations, "positive", clamp_weights=False)
        torch.testing.assert_close(found, contributions.clamp(min=0).sum(2))
        found = combine(parts, evidence.activations, "negative", clamp_weights=False)
        torch.testing.assert_close(found, contributions.clamp(max=0).sum(2))
        found = combine(parts, evidence.activations, "positive", clamp_weights=True)
        torch.testing.assert_close(found, (weights.clamp(min=0) * evidence.activations).sum(2))


@given(seeds)
def test_signed_layer_cam_is_hirescam(seed: int) -> None:
    evidence = evidence_of(seed, nonnegative=False)
    hirescam = (evidence.gradients * evidence.activations).sum(2)
    torch.testing.assert_close(map_of("layer-cam", evidence), hirescam)


@given(seeds)
def test_rectified_methods_are_odd_in_the_gradient(seed: int) -> None:
    evidence = evidence_of(seed, nonnegative=True)
    against = evidence.negated()
    rectified = [name for name in METHODS if methods.get(name).rectified]
    assert rectified
    for name in rectified:
        assert methods.get(name).weights(evidence).min() >= -1e-12 or name == "grad-cam++"
        torch.testing.assert_close(map_of(name, evidence), -map_of(name, against))


@given(seeds)
def test_a_rectified_method_is_its_paper_s_formula_where_gradients_of_both_signs_share_a_channel(seed: int) -> None:
    evidence = evidence_of(seed, nonnegative=True)
    against = evidence.negated()
    for method in ON_CONVOLUTIONS.values():
        if not method.rectified:
            continue
        parts = weight_parts(method, evidence)
        for clamp_weights in (True, False):
            positive, negative = (
                combine(parts, evidence.activations, sign, clamp_weights=clamp_weights)
                for sign in ("positive", "negative")
            )
            torch.testing.assert_close(positive, (method.weights(evidence).clamp(min=0) * evidence.activations).sum(2))
            torch.testing.assert_close(negative, -(method.weights(against).clamp(min=0) * evidence.activations).sum(2))


@given(seeds)
def test_hirescam_of_a_nonlinear_head_is_gradient_times_activation(seed: int) -> None:
    model = wrapped("mlp", nn.SiLU, seed=seed)
    batch = images(1)
    found = maps(model.explain(batch, [1], method="layer-cam", sign="signed"))
    leaf = model.activations(batch).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.sigmoid_head.eval()(leaf)[:, 1].sum(), leaf)
    torch.testing.assert_close(found[:, 0], (gradient * leaf).sum(1).detach())


@pytest.mark.parametrize("sign", ["signed", "positive", "negative"])
@pytest.mark.parametrize("clamp_weights", [True, False])
@given(seed=seeds)
def test_hirescam_is_layer_cam_under_every_sign(sign: Sign, clamp_weights: bool, seed: int) -> None:
    evidence = evidence_of(seed, nonnegative=False)
    one, other = (
        combine(weight_parts(methods.get(name), evidence), evidence.activations, sign, clamp_weights=clamp_weights)
        for name in ("hirescam", "layer-cam")
    )
    torch.testing.assert_close(one, other)
