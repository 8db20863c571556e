"""Maps of several layers in one: the paper's fusion by hand, on every head, and what can not be fused."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dualcam import DualBranch
from dualcam.errors import ChoiceError, MethodNotApplicable, ModelError, StructureNotFound
from dualcam.types import Branch, Fuse, HeadKind, Sign
from tests.models import KINDS, images, maps, wrapped
from tests.observe import changed, snapshot

LAYERS = ("features.2", "features.3", "features.5")
"""Of the tiny classifiers: the first activation on 12 x 16 cells, a convolution and the last activation on 6 x 8."""


def by_hand(model: DualBranch, batch: Tensor, k: int, branch: Branch, how: Fuse) -> Tensor:
    """Return LayerCAM's fusion [B, 12, 16], layer by layer, each run through what follows it."""
    features = model.classifier.features
    assert isinstance(features, nn.Sequential)
    units = []
    for path in LAYERS:
        place = int(path.rpartition(".")[2]) + 1
        leaf = features[:place](batch).detach().requires_grad_()
        rest = features[place:](leaf)
        head = model.head(branch)
        inputs = model.tail().features(batch) if head.reads_features else rest
        if head.reads_features:  # the tiny tail, written again: attention over cells by a query
            cells = rest.flatten(2)
            query = model.classifier.query
            assert isinstance(query, Tensor)
            inputs = (cells * (query @ cells).softmax(1).unsqueeze(1)).sum(2)
        (gradient,) = torch.autograd.grad(head(inputs)[:, k].sum(), leaf)
        raw = (gradient.clamp(min=0) * leaf.detach()).clamp(min=0).sum(1)
        if path == "features.3":  # activations below 0: a weight against makes them evidence for
            raw = raw + (gradient.clamp(max=0) * leaf.detach()).clamp(min=0).sum(1)
        unit = raw / raw.amax((1, 2), keepdim=True)
        unit = (2 * unit).tanh() if path == "features.2" else unit
        units.append(functional.interpolate(unit.unsqueeze(1), (12, 16), mode="bilinear")[:, 0])
    stacked = torch.stack(units)
    return stacked.amax(0) if how == "max" else stacked.mean(0)


@pytest.mark.parametrize("how", ["max", "mean"])
@pytest.mark.parametrize("branch", ["softmax", "sigmoid"])
@pytest.mark.parametrize("kind", KINDS)
def test_layer_cam_s_fusion_by_hand(kind: HeadKind, branch: Branch, how: Fuse) -> None:
    model = wrapped(kind, nn.ReLU).eval()
    explained = model.explain(images(), [1, 3], branch=branch, layers=LAYERS, fuse=how)
    found = maps(explained)
    assert found.shape == (2, 2, 12, 16)
    for position, k in enumerate((1, 3)):
        torch.testing.assert_close(found[:, position], by_hand(model, images(), k, branch, how).detach())
    assert all(each.residuals is None for each in explained)


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++", "xgrad-cam", "hirescam", "eigen-grad-cam"])
def test_every_gradient_method_and_sign_fuses(method: str) -> None:
    model = wrapped("mlp", nn.SiLU)
    found: dict[Sign, Tensor] = {}
    signs: list[Sign] = ["positive", "negative", "signed"]
    for sign in signs:
        found[sign] = maps(model.explain(images(), "all", method=method, layers=LAYERS, sign=sign))
    assert found["positive"].min() >= 0
    assert found["positive"].max() <= 1
    assert found["negative"].max() <= 0
    assert found["negative"].min() >= -1
    torch.testing.assert_close(found["signed"], found["positive"] + found["negative"])
    assert found["positive"].amax((2, 3)).min() > 0.5


def test_a_batch_is_its_single_images_and_the_model_is_left() -> None:
    model = wrapped("tail").train()
    before = snapshot(model)
    together = maps(model.explain(images(3), [0, 2], layers=LAYERS))
    alone = torch.cat([maps(model.explain(image.unsqueeze(0), [0, 2], layers=LAYERS)) for image in images(3)])
    torch.testing.assert_close(together, alone)
    assert changed(before, snapshot(model)) == []


def test_one_layer_s_share_is_its_own_map() -> None:
    model = wrapped("mlp")
    evidence = model.explain(images(), [1], layers=("features.4", "features.5"), fuse="mean")
    last = maps(model.explain(images(), [1], method="layer-cam"))
    other = 2 * maps(evidence) - last / last.amax((2, 3), keepdim=True)
    assert other.min() > -1e-12
    torch.testing.assert_close(other.amax((2, 3)), torch.ones(2, 1, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": ["features.5"]}, ChoiceError, "is one layer"),
        ({"layers": ["features.5", "fetures.2"]}, StructureNotFound, "near names: .*features.2"),
        ({"layers": LAYERS, "fuse": "sum"}, ChoiceError, "fuse='sum'"),
        ({"layers": LAYERS, "method": "cam"}, MethodNotApplicable, "'cam' knows one layer"),
        ({"layers": LAYERS, "method": "score-cam"}, MethodNotApplicable, "'score-cam' knows one layer"),
        ({"layers": ["features.2", "head.3"]}, ModelError, "does not run before the head"),
    ],
)
def test_what_can_not_be_fused(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wrapped("pooled-linear").explain(images(), **options)
