"""Maps as tensors: explain's; of many classes in parts; and differentiable by images and parameters."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import dualcam
from dualcam import DualBranch, Preprocessing, methods, raw
from dualcam.errors import ChoiceError, MethodNotApplicable
from dualcam.evidence import gather_evidence
from dualcam.guards import unfused_attention
from dualcam.maps import evidence_maps
from dualcam.types import Branch, HeadKind, Score, Sign, Tapped
from tests.models import CLASSES, KINDS, LINEAR, images, maps, wrapped
from tests.observe import changed, snapshot

DIFFERENTIABLE = [name for name, method in methods.available().items() if not method.needs]
BRANCHES: list[Branch] = ["softmax", "sigmoid"]
SMALL = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def assert_slope(total: Callable[[], Tensor], parameters: list[nn.Parameter], *, least: float, rtol: float) -> None:
    """Compare the slope of ``total`` along a direction in all ``parameters``, which then move, with its quotient."""
    generator = torch.Generator().manual_seed(2)
    directions = [torch.randn(each.shape, generator=generator, dtype=each.dtype) for each in parameters]
    slopes = torch.autograd.grad(total(), parameters, allow_unused=True)
    slope = sum((g * d).sum() for g, d in zip(slopes, directions, strict=True) if g is not None)
    ends = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            for each, direction in zip(parameters, directions, strict=True):
                each.add_(direction, alpha=step)
        ends.append(total().detach())
    assert abs(float(slope)) > least
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / 2e-5, rtol=rtol, atol=1e-8)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_they_are_explain_s(kind: HeadKind, create_graph: bool) -> None:
    model = wrapped(kind, nn.SiLU)
    asked: list[tuple[Branch, Sign, Score]] = [("softmax", "signed", "logit"), ("sigmoid", "positive", "log-odds")]
    for method in DIFFERENTIABLE:
        if methods.get(method).needs_rows and kind not in LINEAR:
            continue
        for branch, sign, score in asked:
            options: Any = {"method": method, "branch": branch, "sign": sign, "score": score}
            found = evidence_maps(model, images(), "top2", create_graph=create_graph, **options)
            assert found.requires_grad == create_graph
            expected = maps(model.explain(images(), "top2", **options))
            torch.testing.assert_close(found.detach(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("score", ["logit", "centered", "log-odds", "finer"])
@pytest.mark.parametrize("kind", KINDS)
def test_many_classes_in_parts_are_the_same(kind: HeadKind, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrapped(kind, nn.SiLU)
    signs: list[Sign] = ["signed", "positive"]
    each = torch.arange(CLASSES).repeat(2, 1)  # a tensor of its own for each image: nothing is shared
    for method in ("grad-cam", "grad-cam++", "eigen-grad-cam"):
        for sign in signs:
            options: Any = {"method": method, "score": score, "sign": sign}
            monkeypatch.setattr(raw, "AT_ONCE", 2**24)
            whole = evidence_maps(model, images(), each, **options)
            torch.testing.assert_close(evidence_maps(model, images(), "all", **options), whole)
            for at_once in (1, 2 * 48 * 8 * 2):
                monkeypatch.setattr(raw, "AT_ONCE", at_once)
                torch.testing.assert_close(evidence_maps(model, images(), "all", **options), whole)


@pytest.mark.parametrize("score", ["logit", "centered"])
def test_all_images_share_the_rows_of_all_classes(score: Score) -> None:
    model = wrapped("pooled-linear")
    head = model.sigmoid_head
    activations = torch.rand(3, 8, 4, 4, dtype=torch.float64)
    index = torch.arange(CLASSES).expand(3, CLASSES)
    evidence = gather_evidence(head, Tapped(activations, head(activations), activations), index, score)
    assert evidence.class_rows is not None
    assert evidence.class_rows.shape == evidence.gradients.shape == (1, CLASSES, 8, 1, 1)
    assert methods.get("grad-cam").weights(evidence).data_ptr() == evidence.gradients.data_ptr()


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (kind, method)
        for kind, method in product(KINDS, DIFFERENTIABLE)
        if kind in LINEAR or not methods.get(method).needs_rows
    ],
)
def test_they_are_differentiable_by_the_images(kind: HeadKind, method: str) -> None:
    model = wrapped(kind, nn.SiLU).requires_grad_(False)

    def total(batch: Tensor) -> Tensor:
        return evidence_maps(model, batch, [1, 3], method=method, sign="signed", create_graph=True).sin().sum((2, 3))

    assert torch.autograd.gradcheck(total, SMALL[:1].clone().requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("score", ["logit", "log-odds", "finer"])
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_they_are_differentiable_by_the_parameters(kind: HeadKind, branch: Branch, score: Score) -> None:
    """Along a random direction of all parameters, the gradient is the difference quotient."""
    model = wrapped(kind, nn.SiLU)
    head = [*model.head(branch).parameters()]
    backbone = [*model.classifier.features.parameters()]  # type: ignore[union-attr]
    if kind == "tail":
        backbone.append(model.classifier.query)
    for parameters in (head, backbone):

        def total() -> Tensor:
            found = evidence_maps(
                model, SMALL, [1, 3], method="grad-cam", branch=branch, score=score, create_graph=True
            )
            return found.sin().sum()

        assert_slope(total, parameters, least=1e-6, rtol=1e-4)


def test_a_frozen_backbone_leaves_the_branch_to_be_trained() -> None:
    model = wrapped("mlp").requires_grad_(False)
    model.sigmoid_head.requires_grad_(True)
    found = evidence_maps(model, images(), [0], method="grad-cam", create_graph=True)
    found.square().mean().backward()  # type: ignore[no-untyped-call]
    assert all(each.grad is not None for name, each in model.sigmoid_head.named_parameters() if "bias" not in name)
    assert all(each.grad is None for each in model.classifier.parameters())


def test_what_has_no_graph_says_so() -> None:
    layers: dict[str, Any] = {"method": "layer-cam", "layers": ["features.2", "features.5"]}
    for options, message in (({"method": "score-cam"}, "'score-cam'"), (layers, "several layers in one")):
        with pytest.raises(MethodNotApplicable, match=f"{message} can not be differentiated"):
            evidence_maps(wrapped("mlp"), images(), create_graph=True, **options)
    with pytest.raises(ChoiceError, match="normalize: these maps are raw"):
        evidence_maps(wrapped("mlp"), images(), normalize="max")


def small_timm() -> nn.Module:
    model: nn.Module = timm.models.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=12, depth=2, num_heads=2, num_classes=CLASSES, reg_tokens=1
    )
    return model


def small_torchvision() -> nn.Module:
    model: nn.Module = torchvision.models.VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=16, num_classes=CLASSES
    )
    return model


def small_hugging_face() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(image_size=16, patch_size=4, num_labels=CLASSES, **sizes)
    model: nn.Module = transformers.ViTForImageClassification(config)
    return model


@pytest.mark.parametrize("build", [small_timm, small_torchvision, small_hugging_face])
@pytest.mark.parametrize("method", ["grad-cam", "layer-cam"])
def test_transformers_are_differentiated_twice(build: Callable[[], nn.Module], method: str) -> None:
    """By the images and by all parameters, through fused attention, which has no second derivative of its own."""
    torch.manual_seed(0)
    module = build().double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.4)
    model = dualcam.wrap(module, preprocessing=Preprocessing(size=(16, 16)))
    assert model.softmax_head.kind == "tail"
    batch = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    options: Any = {"method": method, "sign": "signed", "create_graph": True}

    def total(given: Tensor) -> Tensor:
        return evidence_maps(model, given, [1, 3], **options).sin().sum((2, 3))

    expected = maps(model.explain(batch, [1, 3], method=method, sign="signed"))
    torch.testing.assert_close(evidence_maps(model, batch, [1, 3], **options).detach(), expected)
    before = snapshot(model)
    assert torch.autograd.gradcheck(total, batch.clone().requires_grad_(), fast_mode=True)
    torch.autograd.grad(total(batch).sum(), [*model.parameters()], allow_unused=True)
    assert changed(before, snapshot(model)) == []
    assert_slope(lambda: total(batch).sum(), [*model.parameters()], least=1e-4, rtol=1e-5)


def test_of_a_frozen_transformer_the_branch_is_trained_alone() -> None:
    torch.manual_seed(0)
    model = dualcam.wrap(small_timm().eval(), preprocessing=Preprocessing(size=(16, 16))).requires_grad_(False)
    model.sigmoid_head.requires_grad_(True)
    found = evidence_maps(model, torch.randn(2, 3, 16, 16), [0], method="grad-cam", create_graph=True)
    found.square().mean().backward()  # type: ignore[no-untyped-call]
    assert all(each.grad is not None for name, each in model.sigmoid_head.named_parameters() if "bias" not in name)
    assert all(each.grad is None for each in model.classifier.parameters())


def test_the_choice_of_attention_kernels_is_given_back() -> None:
    kernels: Any = torch.backends.cuda

    def chosen() -> list[bool]:
        return [kernels.flash_sdp_enabled(), kernels.mem_efficient_sdp_enabled(), kernels.math_sdp_enabled()]

    before = chosen()
    first, second = unfused_attention(), unfused_attention()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # as another thread does
    assert chosen() == [False, False, True]
    second.__exit__(None, None, None)
    assert chosen() == before
    with pytest.raises(ZeroDivisionError), unfused_attention():
        raise ZeroDivisionError
    assert chosen() == before


@pytest.mark.parametrize("kind", ["mlp", "tail"])
def test_nothing_is_left_behind(kind: HeadKind) -> None:
    model: DualBranch = wrapped(kind).train()
    before = snapshot(model)
    for create_graph in (False, True):
        batch = images().requires_grad_()
        found = evidence_maps(model, batch, "all", method="grad-cam", create_graph=create_graph)
        assert found.requires_grad == create_graph
        if create_graph:
            torch.autograd.grad(found.sum(), batch)
    assert changed(before, snapshot(model)) == []
