"""The last layer is found, proven, and its gradients are those of autograd."""

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

import dualcam
from dualcam.diagnose.last_layer import exact, find_last_layer, why_no_layer
from dualcam.types import HeadKind
from tests.diagnose.forwards import kept
from tests.models import CHANNELS, CLASSES, KINDS, PREPROCESSING, Tiny, head_input, images, tiny, wrapped
from tests.observe import changed, snapshot


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_rows_times_inputs(kind: HeadKind) -> None:
    model = wrapped(kind)
    tapped = model.tap(images())
    layer = find_last_layer(exact(model.softmax_head), tapped)
    assert layer is not None
    torch.testing.assert_close(layer.inputs(tapped) @ layer.weight.T + layer.bias, tapped.logits)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_rows_product(kind: HeadKind) -> None:
    model = wrapped(kind)
    tapped = model.tap(images())
    layer = find_last_layer(model.softmax_head, tapped)
    assert layer is not None
    vectors = torch.randn(3, layer.weight.shape[1], dtype=torch.float64)
    found = layer.gradients(tapped, vectors).expand(-1, -1, *tapped.activations.shape[1:])
    of_each = layer.gradients(tapped, torch.stack((vectors, 2 * vectors))).expand(found.shape)
    torch.testing.assert_close(of_each, found * torch.tensor([1.0, 2.0]).double().view(2, 1, 1, 1, 1))
    leaf = tapped.activations.clone().requires_grad_()
    for place, vector in enumerate(vectors):
        head = exact(model.softmax_head) if layer.head.is_linear else model.softmax_head
        rows = head.last_layer()
        assert rows is not None
        with torch.no_grad():
            saved = rows.weight.clone()
            rows.weight.copy_(vector.view_as(rows.weight[:1]).expand_as(rows.weight))
        (expected,) = torch.autograd.grad(head(head_input(model, leaf))[:, 0].sum(), leaf)
        with torch.no_grad():
            rows.weight.copy_(saved)
        assert expected.abs().max() > 1e-6
        torch.testing.assert_close(found[:, place], expected)


class Several(nn.Module):
    """Two last layers, each on cells pooled by a query of its own: a distilled model, or VOLO's token labels."""

    def __init__(self, how: Literal["mean", "sum", "tokens"]) -> None:
        super().__init__()
        self.features = tiny("tail").features
        self.queries = nn.Parameter(torch.randn(2, CHANNELS))
        self.first, self.second = nn.Linear(CHANNELS, CLASSES), nn.Linear(CHANNELS, CLASSES)
        self.how = how

    def forward(self, images: Tensor) -> Tensor:
        cells = self.features(images).flatten(2)
        attention = (self.queries @ cells).softmax(2)
        one, other = (attention @ cells.transpose(1, 2)).unbind(1)
        first: Tensor = self.first(one)
        if self.how == "tokens":
            best: Tensor = self.second(cells.transpose(1, 2)).amax(1)
            return first + 0.5 * best
        both: Tensor = first + self.second(other)
        return both / 2 if self.how == "mean" else both


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_two_last_layers_are_one_whose_rows_lie_side_by_side(how: Literal["mean", "sum"]) -> None:
    classifier = Several(how).double().eval()
    model = dualcam.wrap(classifier, preprocessing=PREPROCESSING)
    tapped = model.tap(images())
    layer = find_last_layer(model.softmax_head, tapped)
    assert layer is not None
    assert layer.weight.shape == (CLASSES, 2 * CHANNELS)
    torch.testing.assert_close(layer.inputs(tapped) @ layer.weight.T + layer.bias, tapped.logits)
    vector = torch.randn(2 * CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        for linear, part in zip((classifier.first, classifier.second), vector.view(2, CHANNELS), strict=True):
            linear.weight += part
    after = model.tap(images()).logits
    torch.testing.assert_close(after - tapped.logits, (layer.inputs(tapped) @ vector)[:, None].expand_as(after))
    torch.testing.assert_close(after.softmax(1), tapped.logits.softmax(1))


def test_token_labels_are_no_rows_times_inputs() -> None:
    model = dualcam.wrap(Several("tokens").double().eval(), preprocessing=PREPROCESSING)
    assert find_last_layer(model.softmax_head, model.tap(images())) is None
    assert "TokenLabels" in why_no_layer(model.softmax_head)


def test_a_relu_behind_the_layer_leaves_nothing_free() -> None:
    classifier = Tiny("pooled-conv")
    classifier.head = nn.Sequential(nn.Conv2d(CHANNELS, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = dualcam.wrap(classifier.double().eval(), preprocessing=PREPROCESSING)
    assert not model.softmax_head.is_linear
    assert find_last_layer(model.softmax_head, model.tap(images())) is None


@pytest.mark.parametrize("kind", ["mlp", "tail"])
def test_the_model_is_left_as_it_was(kind: HeadKind) -> None:
    model = dualcam.wrap(tiny(kind).train(), preprocessing=PREPROCESSING)
    before = snapshot(model)
    forwards, tapped = kept(model, images())
    layer = find_last_layer(model.softmax_head, tapped)
    assert layer is not None
    layer.gradients(forwards.tapped(slice(2)), torch.randn(1, layer.weight.shape[1], dtype=torch.float64))
    layer.inputs(tapped)
    assert not changed(before, snapshot(model))
