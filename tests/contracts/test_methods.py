"""What every CAM method keeps, whichever lies in the methods folder."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dualcam import DualBranch, methods
from dualcam.errors import ChoiceError, MethodNotApplicable
from dualcam.heatmap import weight_parts
from dualcam.methods import Method
from dualcam.targets import SCORES
from dualcam.tuning import Tuning
from dualcam.types import Branch, Evidence, HeadKind, Moments, Normalization, Probes, Sign
from tests.models import (
    CHANNELS,
    CLASSES,
    GRID,
    KINDS,
    LINEAR,
    ON_CONVOLUTIONS,
    SIZE,
    head_input,
    images,
    maps,
    tiny,
    wrapped,
)

METHODS = list(ON_CONVOLUTIONS.values())
BRANCHES: list[Branch] = ["softmax", "sigmoid"]
SIGNS: list[Sign] = ["positive", "signed", "negative"]
NORMALIZATIONS: list[Normalization | None] = ["max", "minmax", "ivr", None]
ACTIVATIONS: list[type[nn.Module]] = [nn.ReLU, nn.SiLU]
APPLICABLE = [
    (method, kind, activation)
    for method, kind, activation in product(METHODS, KINDS, ACTIVATIONS)
    if kind in LINEAR or not method.needs_rows
]
every = pytest.mark.parametrize(
    ("method", "kind", "activation"),
    APPLICABLE,
    ids=[f"{method.name}-{kind}-{activation.__name__}" for method, kind, activation in APPLICABLE],
)


def few(method: Method) -> dict[str, int]:
    """Return a tuning that lets ``method`` take few samples."""
    return {"samples": 2} if "samples" in method.reads else {}


def fake_probes(activations: torch.Tensor, gradients: torch.Tensor) -> Probes:
    """Return answers [B, N, 1] that need no model, and the moments of one clean image."""
    return Probes(
        images=torch.rand(len(activations), 3, 4, 4, dtype=torch.float64),
        linear=False,
        tuning=Tuning(samples=2),
        image_scores=lambda changed: changed.flatten(2).mean(2, keepdim=True),
        activation_scores=lambda changed: changed.flatten(2).sum(2, keepdim=True),
        moments=Moments(gradients, gradients**2, gradients**3),
    )


def naive_evidence(model: DualBranch, branch: Branch, method: Method, batch: torch.Tensor, k: int) -> Evidence:
    """Return the evidence for class ``k`` [B, 1, D, h, w] by autograd through the head, its answers one by one."""
    head = model.head(branch).eval()

    def at(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = model.activations(images).detach().requires_grad_()
        return leaf.detach(), torch.autograd.grad(head(head_input(model, leaf))[:, k].sum(), leaf)[0].unsqueeze(1)

    def answer(activations: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = head(head_input(model, activations))
        return logits

    def each(changed: torch.Tensor, score: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return torch.stack([torch.stack([score(one.unsqueeze(0)) for one in item]) for item in changed])

    activations, gradients = at(batch)
    generator = torch.Generator().manual_seed(0)
    noisy = []
    for _ in range(2):
        draw = torch.randn(3, *SIZE, generator=generator, dtype=torch.float64)
        copies = [image + 0.1 * (image.max() - image.min()) * draw for image in batch]
        noisy.append(at(torch.stack(copies))[1])
    powers = [torch.stack([each**power for each in noisy]).mean(0) for power in (1, 2, 3)]
    with torch.no_grad():
        rows = head.rows().weight[k].view(1, 1, CHANNELS, 1, 1) if head.is_linear else None
    probes = Probes(
        images=batch,
        linear=False,  # closed forms are for the pipeline; what they stand for is asked here
        tuning=Tuning(samples=2),
        image_scores=lambda changed: each(changed, lambda one: answer(model.activations(one)).softmax(1)[0, k : k + 1]),
        activation_scores=lambda changed: each(changed, lambda one: answer(one)[0, k : k + 1]),
        moments=Moments(*powers),
    )
    return Evidence(activations.unsqueeze(1), gradients, rows, probes if method.needs else None)


def test_the_folder_is_the_list() -> None:
    files = {path.stem for path in Path(methods.__file__).parent.glob("*.py")} - {"__init__"}
    assert len(files) == len(methods.available())
    assert {method.weights.__module__.rpartition(".")[2] for method in methods.available().values()} == files
    for name, method in methods.available().items():
        assert name == method.name
        assert name == name.lower()
        assert any(str(year) in method.paper for year in range(2016, 2030))
        assert methods.get(name) is method


def test_an_unknown_method_names_them_all() -> None:
    with pytest.raises(ChoiceError) as raised:
        wrapped("mlp").explain(images(), method="gradcam")
    assert all(repr(name) in str(raised.value) for name in methods.available())


@every
def test_shapes_ranges_and_types(method: Method, kind: HeadKind, activation: type[nn.Module]) -> None:
    model = wrapped(kind, activation)
    assert model.softmax_head.kind == kind
    assert model.anatomy.nonnegative == (activation is nn.ReLU)
    for branch, sign, normalize in product(BRANCHES, SIGNS, NORMALIZATIONS):
        first, second = model.explain(
            images(),
            [1, 3],
            method=method.name,
            branch=branch,
            sign=sign,
            normalize=normalize,
            tuning=few(method),
        )
        assert first.raw.shape == first.signed.shape == (2, *GRID)
        assert first.raw.dtype == torch.float64
        assert not first.raw.requires_grad
        assert [evidence.index for evidence in second] == [1, 3]
        for evidence in (*first, *second):
            shown = evidence.map
            assert shown.shape == SIZE
            assert shown.dtype == np.float32
            assert np.isfinite(shown).all()
            if normalize is not None:
                assert shown.min() >= 0
                assert shown.max() <= 1
            elif sign != "signed":
                assert (shown >= 0).all() if sign == "positive" else (shown <= 0).all()
        assert first.signed.abs().max() > 0


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_homogeneous_methods_carry_a_factor_through(method: Method) -> None:
    activations = torch.rand(2, 1, CHANNELS, *GRID, dtype=torch.float64)
    gradients = torch.randn(2, 3, CHANNELS, *GRID, dtype=torch.float64)
    rows = torch.randn(2, 3, CHANNELS, 1, 1, dtype=torch.float64)
    plain, scaled = (
        method.weights(Evidence(activations, factor * gradients, factor * rows, probes))
        for factor, probes in ((1, fake_probes(activations, gradients)), (7, fake_probes(activations, 7 * gradients)))
    )
    assert torch.allclose(scaled, 7 * plain) == method.homogeneous


@every
def test_the_raw_map_is_weights_times_activations(method: Method, kind: HeadKind, activation: type[nn.Module]) -> None:
    """The pipeline, written out again with autograd through the head."""
    model = wrapped(kind, activation)
    batch = images(2)
    for branch in BRANCHES:
        evidence = naive_evidence(model, branch, method, batch, 2)
        activations = evidence.activations
        with torch.no_grad():
            parts = weight_parts(method, evidence)
        options: dict[str, Any] = {"method": method.name, "branch": branch, "tuning": few(method)}
        expected = (sum(parts) * activations).sum(2)
        found = maps(model.explain(batch, 2, sign="signed", **options))
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)
        if activation is nn.ReLU:
            positive = torch.stack([(part.clamp(min=0) * activations).sum(2) for part in parts]).sum(0)
        else:
            positive = torch.stack([(part * activations).clamp(min=0).sum(2) for part in parts]).sum(0)
        found = maps(model.explain(batch, 2, **options))
        torch.testing.assert_close(found, positive, rtol=1e-8, atol=1e-12)


@every
def test_a_batch_is_its_single_images(method: Method, kind: HeadKind, activation: type[nn.Module]) -> None:
    model = wrapped(kind, activation)
    batch = images(4)
    together = maps(model.explain(batch, "all", method=method.name, tuning=few(method)))
    for position in range(4):
        alone = maps(model.explain(batch[position : position + 1], "all", method=method.name, tuning=few(method)))[0]
        torch.testing.assert_close(together[position], alone, rtol=1e-9, atol=1e-12)


@every
def test_several_classes_are_each_class(method: Method, kind: HeadKind, activation: type[nn.Module]) -> None:
    model = wrapped(kind, activation)
    together = maps(model.explain(images(), "all", method=method.name, sign="signed", tuning=few(method)))
    assert together.shape[1] == CLASSES
    for index in range(CLASSES):
        alone = maps(model.explain(images(), index, method=method.name, sign="signed", tuning=few(method)))[:, 0]
        torch.testing.assert_close(together[:, index], alone, rtol=1e-9, atol=1e-12)


@every
def test_every_score(method: Method, kind: HeadKind, activation: type[nn.Module]) -> None:
    model = wrapped(kind, activation)
    batch = images()
    found = {}
    for score in SCORES:
        found[score] = maps(
            model.explain(batch, [0, 4], method=method.name, score=score, sign="signed", tuning=few(method))
        )
        assert torch.isfinite(found[score]).all()
        for explanation in model.explain(batch, [0, 4], method=method.name, score=score, tuning=few(method)):
            promised = score == "logit" and kind in LINEAR and method.total is not None
            assert (explanation.residuals is not None) == promised
    assert torch.allclose(found["logit"], found["centered"], atol=1e-6) != method.per_class


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in LINEAR])
@pytest.mark.parametrize("method", [method for method in METHODS if method.needs_rows], ids=lambda item: item.name)
def test_rows_are_not_invented(method: Method, kind: HeadKind) -> None:
    with pytest.raises(MethodNotApplicable, match=rf"{kind}.*grad-cam.*fit_head='linear'"):
        wrapped(kind).explain(images(), method=method.name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_method_applies(kind: HeadKind) -> None:
    model = wrapped(kind)
    default = maps(model.explain(images()))
    named = maps(model.explain(images(), method="cam" if kind in LINEAR else "grad-cam"))
    assert torch.equal(default, named)


@pytest.mark.parametrize("method", METHODS, ids=lambda item: item.name)
def test_activations_that_are_all_zero_give_a_flat_map(method: Method) -> None:
    gradients = torch.randn(1, 1, 3, 2, 2).double()
    rows = torch.randn(1, 1, 3, 1, 1).double()
    zeros = torch.zeros(1, 1, 3, 2, 2).double()
    for weights in weight_parts(method, Evidence(zeros, gradients, rows, fake_probes(zeros, gradients))):
        assert torch.isfinite(weights).all()


@pytest.mark.parametrize("method", METHODS, ids=lambda item: item.name)
def test_tiny_gradients_keep_their_weight(method: Method) -> None:
    """No epsilon swallows small evidence: weights scale with the gradient as it goes to zero, or do not read it."""
    activations = torch.rand(1, 1, 3, 2, 2).double()
    gradients = torch.randn(1, 1, 3, 2, 2).double()
    rows = torch.randn(1, 1, 3, 1, 1).double()
    probes = fake_probes(activations, gradients)

    def tiny_evidence(scale: float) -> Evidence:
        moments = Moments(*(scale**power * gradients**power for power in (1, 2, 3)))
        return Evidence(activations, scale * gradients, scale * rows, replace(probes, moments=moments))

    one, other = (
        sum(weight_parts(method, tiny_evidence(scale))) / (1 if method.gradient_free else scale)
        for scale in (1e-9, 1e-12)
    )
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_a_method_put_beside_the_others_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    last = Method("last-channel", lambda evidence: torch.eye(CHANNELS).double()[-1].view(CHANNELS, 1, 1), "2030")
    monkeypatch.setitem(methods.available(), last.name, last)
    model = wrapped("mlp")
    with torch.no_grad():
        expected = model.activations(images())[:, -1]
    torch.testing.assert_close(maps(model.explain(images(), method="last-channel"))[:, 0], expected)


def test_tiny_models_have_the_heads_they_are_named_for() -> None:
    for kind in KINDS:
        assert wrapped(kind).softmax_head.kind == kind
        assert tiny(kind)(images()).shape == (2, CLASSES)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_some_classes_are_those_of_the_whole_head(kind: HeadKind) -> None:
    """Residuals stand on it: a linear head's rows, read alone, have to say what its own forward says."""
    model = wrapped(kind)
    index = torch.tensor([[4, 0], [1, 1], [2, 3]])
    for head in (model.softmax_head, model.sigmoid_head):
        inputs = head.input_of(model.tap(images(3))).detach()
        torch.testing.assert_close(head.logits_of(inputs, index), head(inputs).gather(1, index))
