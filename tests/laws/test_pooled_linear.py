"""Identities of pooled linear heads: which methods are one method, completeness, closed form = autograd."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from dualcam import methods
from dualcam.targets import SCORES
from dualcam.types import Score
from tests.models import ON_CONVOLUTIONS, explain_planted, maps, plant

BATCH, CHANNELS, HEIGHT, WIDTH, CLASSES = 2, 3, 2, 4, 4
CELLS = HEIGHT * WIDTH


def tensors(*shape: int, low: float = -3, high: float = 3) -> st.SearchStrategy[Tensor]:
    """Draw float64 tensors; hypothesis likes zeros, repeats and edges, where formulas break."""
    numbers = st.floats(low, high, width=32).map(lambda x: 0.0 if abs(x) < 1e-3 else x)
    return arrays.arrays("float64", shape, elements=numbers).map(torch.from_numpy)


signed_activations = tensors(BATCH, CHANNELS, HEIGHT, WIDTH)
rectified_activations = tensors(BATCH, CHANNELS, HEIGHT, WIDTH, low=0)
rows = tensors(CLASSES, CHANNELS)
biases = tensors(CLASSES)


def asks_for_images(method: methods.Method) -> bool:
    """Say whether a method asks for scores of other images, which a model of planted activations does not see."""
    return "image-scores" in method.needs


def reference(weight: Tensor, activations: Tensor) -> Tensor:
    """Return sum_i W_ki F_i, [B, K, h, w]."""
    return torch.einsum("kd,bdhw->bkhw", weight, activations)


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("method", ["grad-cam", "xgrad-cam", "layer-cam"])
@given(activations=rectified_activations, weight=rows, bias=biases)
def test_signed_gradient_maps_are_cam_by_the_number_of_cells(
    method: str, opaque: bool, activations: Tensor, weight: Tensor, bias: Tensor
) -> None:
    found = maps(explain_planted(activations, weight, bias, opaque=opaque, method=method, sign="signed"))
    torch.testing.assert_close(found, reference(weight, activations) / CELLS)


@given(signed_activations, rows, biases)
def test_cam_is_the_class_row(activations: Tensor, weight: Tensor, bias: Tensor) -> None:
    found = maps(explain_planted(activations, weight, bias, method="cam", sign="signed"))
    torch.testing.assert_close(found, reference(weight, activations))


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("method", ["grad-cam", "xgrad-cam", "layer-cam"])
@given(activations=rectified_activations, weight=rows, bias=biases)
def test_positive_gradient_maps_are_clamped_cam_by_the_number_of_cells(
    method: str, opaque: bool, activations: Tensor, weight: Tensor, bias: Tensor
) -> None:
    found = maps(explain_planted(activations, weight, bias, opaque=opaque, method=method, sign="positive"))
    torch.testing.assert_close(found, reference(weight.clamp(min=0), activations) / CELLS)


@pytest.mark.parametrize("opaque", [False, True])
@given(activations=rectified_activations, weight=rows, bias=biases)
def test_grad_cam_plus_plus_weight(opaque: bool, activations: Tensor, weight: Tensor, bias: Tensor) -> None:
    found = maps(explain_planted(activations, weight, bias, opaque=opaque, method="grad-cam++", sign="positive"))
    mean = activations.mean((2, 3)).unsqueeze(1)
    expected = weight.clamp(min=0) / (2 + weight.clamp(min=0) * mean)
    torch.testing.assert_close(found, torch.einsum("bkd,bdhw->bkhw", expected, activations))


@given(signed_activations, rows, biases)
def test_completeness(activations: Tensor, weight: Tensor, bias: Tensor) -> None:
    explanations = explain_planted(activations, weight, bias, method="cam", sign="signed")
    scores = activations.mean((2, 3)) @ weight.T + bias
    torch.testing.assert_close(maps(explanations).mean((2, 3)) + bias, scores)
    for image, explanation in enumerate(explanations):
        torch.testing.assert_close(explanation.logits.sigmoid, scores[image])
        assert explanation.residuals is not None
        assert explanation.residuals.max() < 1e-9


@pytest.mark.parametrize("method", [name for name, each in ON_CONVOLUTIONS.items() if not asks_for_images(each)])
@given(activations=signed_activations, weight=rows, bias=biases)
def test_residuals_are_promised_only_where_the_map_adds_up(
    method: str, activations: Tensor, weight: Tensor, bias: Tensor
) -> None:
    total = methods.get(method).total
    for sign in ("signed", "positive"):  # the residual is the signed map's, whatever is shown
        for explanation in explain_planted(activations, weight, bias, method=method, sign=sign):
            assert (explanation.residuals is None) == (total is None)
            if explanation.residuals is not None:
                amount = explanation.signed.mean((1, 2)) if total == "mean" else explanation.signed.sum((1, 2))
                torch.testing.assert_close(amount + bias, explanation.logits.sigmoid)
                assert explanation.residuals.max() < 1e-9


def test_methods_that_ask_for_images_promise_no_residual() -> None:
    asking = [each for each in ON_CONVOLUTIONS.values() if asks_for_images(each)]
    assert asking
    assert all(each.total is None for each in asking)


@given(activations=signed_activations, weight=rows, bias=biases)
def test_ablation_cam_weight_is_the_channel_s_share_of_the_logit(
    activations: Tensor, weight: Tensor, bias: Tensor
) -> None:
    found = maps(explain_planted(activations, weight, bias, method="ablation-cam", sign="signed"))
    shares = weight * activations.mean((2, 3)).unsqueeze(1)
    torch.testing.assert_close(shares.sum(2) + bias, activations.mean((2, 3)) @ weight.T + bias)
    torch.testing.assert_close(found, torch.einsum("bkd,bdhw->bkhw", shares, activations))


@pytest.mark.parametrize("sign", ["signed", "positive", "negative"])
@given(activations=rectified_activations, weight=rows, bias=biases)
def test_smooth_grad_cam_plus_plus_is_grad_cam_plus_plus(
    sign: str, activations: Tensor, weight: Tensor, bias: Tensor
) -> None:
    """Noise does not move the gradient of a linear head's logit."""
    smooth, plain = (
        maps(explain_planted(activations, weight, bias, method=method, sign=sign))
        for method in ("smooth-grad-cam++", "grad-cam++")
    )
    torch.testing.assert_close(smooth, plain)


def test_a_wrong_bias_shows_in_the_residual() -> None:
    model = plant(torch.rand(1, 3, 2, 2).double(), torch.randn(4, 3).double(), torch.zeros(4).double())
    image = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    handle = model.classifier.register_forward_hook(lambda _module, _inputs, output: output + 0.25)
    (explanation,) = model.explain(image, "all", method="cam", branch="softmax")
    handle.remove()
    assert explanation.residuals is not None
    torch.testing.assert_close(explanation.residuals, torch.full((4,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("sign", ["signed", "positive", "negative"])
@pytest.mark.parametrize("score", list(SCORES))
@pytest.mark.parametrize(
    "method", [name for name, each in ON_CONVOLUTIONS.items() if not (each.needs_rows or asks_for_images(each))]
)
def test_closed_form_equals_autograd(method: str, score: Score, sign: str) -> None:
    generator = torch.Generator().manual_seed(11)
    activations = torch.rand(3, CHANNELS, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    weight = torch.randn(CLASSES, CHANNELS, generator=generator, dtype=torch.float64)
    bias = torch.randn(CLASSES, generator=generator, dtype=torch.float64)
    options: dict[str, Any] = {"method": method, "score": score, "sign": sign}
    closed = maps(explain_planted(activations, weight, bias, **options))
    traced = maps(explain_planted(activations, weight, bias, opaque=True, **options))
    speaks = sign != "negative" or methods.get(method).per_class  # what knows no class speaks against none
    assert (closed.abs().max() > 1e-12) == speaks
    torch.testing.assert_close(closed, traced, rtol=1e-9, atol=1e-12)
