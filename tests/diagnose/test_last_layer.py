"""The last layer is found, proven, and its gradients are those of autograd."""

import pytest
import torch
from torch import nn

import dualcam
from dualcam.diagnose.last_layer import exact, find_last_layer
from dualcam.types import HeadKind
from tests.models import CHANNELS, CLASSES, ON_ACTIVATIONS, PREPROCESSING, Tiny, images, tiny, wrapped
from tests.observe import changed, snapshot


@pytest.mark.parametrize("kind", ON_ACTIVATIONS)
def test_logits_are_rows_times_inputs(kind: HeadKind) -> None:
    model = wrapped(kind)
    with torch.no_grad():
        activations, logits = model.activations_and_logits(images())
    layer = find_last_layer(exact(model.softmax_head), activations)
    assert layer is not None
    torch.testing.assert_close(layer.inputs(activations) @ layer.weight.T + layer.bias, logits)


@pytest.mark.parametrize("kind", ON_ACTIVATIONS)
def test_gradients_are_those_of_the_rows_product(kind: HeadKind) -> None:
    model = wrapped(kind)
    with torch.no_grad():
        activations = model.activations(images())
    layer = find_last_layer(model.softmax_head, activations)
    assert layer is not None
    vectors = torch.randn(3, layer.weight.shape[1], dtype=torch.float64)
    before = layer.gradients(activations, vectors).expand(-1, -1, *activations.shape[1:])
    leaf = activations.clone().requires_grad_()
    for place, vector in enumerate(vectors):
        head = exact(model.softmax_head) if layer.head.is_linear else model.softmax_head
        rows = head.last_layer()
        assert rows is not None
        with torch.no_grad():
            saved = rows.weight.clone()
            rows.weight.copy_(vector.view_as(rows.weight[:1]).expand_as(rows.weight))
        (expected,) = torch.autograd.grad(head(leaf)[:, 0].sum(), leaf)
        with torch.no_grad():
            rows.weight.copy_(saved)
        torch.testing.assert_close(before[:, place], expected)


def test_a_relu_behind_the_layer_leaves_nothing_free() -> None:
    classifier = Tiny("pooled-conv")
    classifier.head = nn.Sequential(nn.Conv2d(CHANNELS, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = dualcam.wrap(classifier.double().eval(), preprocessing=PREPROCESSING)
    assert not model.softmax_head.is_linear
    assert find_last_layer(model.softmax_head, model.activations(images())) is None


def test_the_head_is_left_as_it_was() -> None:
    model = dualcam.wrap(tiny("mlp").train(), preprocessing=PREPROCESSING)
    with torch.no_grad():
        activations = model.activations(images())
    before = snapshot(model)
    layer = find_last_layer(model.softmax_head, activations)
    assert layer is not None
    layer.gradients(activations, torch.randn(1, layer.weight.shape[1], dtype=torch.float64))
    layer.inputs(activations)
    assert not changed(before, snapshot(model))
