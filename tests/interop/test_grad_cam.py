"""pytorch-grad-cam and captum on a branch: their maps are ours where the method is the same, and the model is left."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dualcam import DualBranch
from dualcam.errors import MethodNotApplicable
from dualcam.types import Branch, HeadKind, Sign
from tests.models import KINDS, SIZE, images, maps, wrapped
from tests.observe import changed, snapshot

pgc = pytest.importorskip("pytorch_grad_cam", reason="pytorch-grad-cam (extra interop) is not installed")
pytest.importorskip("captum", reason="captum (extra interop) is not installed")

from pytorch_grad_cam.utils.image import scale_cam_image  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputReST, ClassifierOutputTarget  # noqa: E402

from dualcam.interop.captum import layer_grad_cam  # noqa: E402
from dualcam.interop.grad_cam import grad_cam  # noqa: E402

SAME = {"GradCAM": "grad-cam", "XGradCAM": "xgrad-cam", "HiResCAM": "hirescam", "LayerCAM": "layer-cam"}
BRANCHES: list[Branch] = ["softmax", "sigmoid"]


def shown(raw: torch.Tensor, sign: Sign) -> Any:
    """Return raw maps [B, h, w] as that library shows them."""
    rectified = np.maximum((-raw if sign == "negative" else raw).numpy(), 0)
    return scale_cam_image(scale_cam_image(rectified, SIZE[::-1]))


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SAME)
def test_maps_are_ours(name: str, kind: HeadKind, branch: Branch) -> None:
    model = wrapped(kind, nn.ReLU)
    signs: list[Sign] = ["positive", "signed", "negative"]
    for sign in signs:
        if name == "LayerCAM" and sign == "signed":
            continue  # theirs has its rectifier inside: it is ours for sign="positive"
        extractor = grad_cam(model, getattr(pgc, name), branch=branch, sign=sign)
        theirs = extractor(input_tensor=images(), targets=[ClassifierOutputTarget(k) for k in (3, 1)])
        classes = torch.tensor([3, 1])
        ours = maps(model.explain(images(), classes, method=SAME[name], branch=branch, sign=sign))[:, 0]
        assert theirs.max() > 0
        np.testing.assert_allclose(theirs, shown(ours, sign), atol=2e-5)


def test_rest_is_their_target() -> None:
    model = wrapped("mlp")
    extractor = grad_cam(model, pgc.GradCAM, sign="signed")
    theirs = extractor(input_tensor=images(), targets=[ClassifierOutputReST(k) for k in (2, 0)])
    ours = maps(model.explain(images(), torch.tensor([2, 0]), method="grad-cam", score="rest", sign="signed"))[:, 0]
    np.testing.assert_allclose(theirs, shown(ours, "signed"), atol=2e-5)


@pytest.mark.parametrize("name", ["GradCAMPlusPlus", "GradCAMElementWise", "ScoreCAM", "AblationCAM", "ShapleyCAM"])
def test_methods_that_differ_from_ours_run_under_both_signs(name: str) -> None:
    model = wrapped("mlp", dtype=torch.float32)
    targets = [ClassifierOutputTarget(1)] * 2
    for sign in ("signed", "positive"):
        extractor = grad_cam(model, getattr(pgc, name), sign=sign)
        found = extractor(input_tensor=images(dtype=torch.float32), targets=targets)
        assert found.shape == (2, *SIZE)
        assert np.isfinite(found).all()
        assert found.max() > 0


@pytest.mark.parametrize("name", ["FinerCAM", "SESS", "RefineCAM"])
def test_methods_around_another_clamp_that_one(name: str) -> None:
    model = wrapped("mlp", dtype=torch.float32)
    targets = [ClassifierOutputTarget(1)] * 2
    found = {}
    for sign in ("signed", "positive"):
        extractor = grad_cam(model, getattr(pgc, name), sign=sign, base_method=pgc.GradCAM)
        found[sign] = extractor(input_tensor=images(dtype=torch.float32), targets=targets)
        assert found[sign].max() > 0
    if name == "FinerCAM":  # with targets of one's own it is its base method
        positive = grad_cam(model, pgc.GradCAM)(input_tensor=images(dtype=torch.float32), targets=targets)
        np.testing.assert_allclose(found["positive"], positive, atol=1e-6)
    assert np.abs(found["signed"] - found["positive"]).max() > 1e-3
    with pytest.raises(MethodNotApplicable, match="EigenCAM has no weights"):
        grad_cam(model, getattr(pgc, name), base_method=pgc.EigenCAM)


def test_methods_without_weights_say_so() -> None:
    model = wrapped("mlp")
    for name in ("EigenCAM", "EigenGradCAM"):
        with pytest.raises(MethodNotApplicable, match=f"{name} has no weights.*sign='signed'"):
            grad_cam(model, getattr(pgc, name))
        assert grad_cam(model, getattr(pgc, name), sign="signed")(
            input_tensor=images(), targets=[ClassifierOutputTarget(1)] * 2
        ).any()
    with pytest.raises(MethodNotApplicable, match="FullGrad reads the biases"):
        grad_cam(model, pgc.FullGrad)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_captum_s_maps_are_ours(kind: HeadKind, branch: Branch) -> None:
    model = wrapped(kind, nn.SiLU)
    theirs = layer_grad_cam(model, branch=branch).attribute(images(), target=torch.tensor([3, 1]))
    ours = maps(model.explain(images(), torch.tensor([3, 1]), method="grad-cam", branch=branch, sign="signed"))
    torch.testing.assert_close(theirs.detach(), ours)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_model_is_left_as_it_was(frozen: bool) -> None:
    model: DualBranch = wrapped("mlp").train()
    model.requires_grad_(not frozen)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = snapshot(model)
    for name in ("GradCAM", "ScoreCAM", "AblationCAM", "ShapleyCAM"):
        extractor = grad_cam(model, getattr(pgc, name))
        extractor(input_tensor=images(), targets=[ClassifierOutputTarget(1)] * 2)
    layer_grad_cam(model).attribute(images(), target=1)
    assert changed(before, snapshot(model)) == []
