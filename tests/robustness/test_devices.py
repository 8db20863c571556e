"""Every tensor follows the model's device: on one that this machine does not have, with the numbers of the CPU.

`tests.second_device` says how. What is computed there must be what is computed here, and no operation may mix the two.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress
from torch import Tensor, nn

import dualcam
from dualcam import DualBranch, Explanation, Preprocessing, methods
from dualcam.evaluation.cells import make_grid
from dualcam.evaluation.fidelity import choose_fidelity
from dualcam.evaluation.measure import Protocol
from dualcam.evaluation.photos import choose_photos
from dualcam.evaluation.records import Records
from dualcam.evaluation.run import Evaluation, run_evaluation
from dualcam.evaluation.views import make_views
from dualcam.explainer import ExplainOptions
from dualcam.maps import evidence_maps
from dualcam.methods import Method
from dualcam.metrics.fidelity_settings import FidelitySettings
from dualcam.types import HeadKind, Score
from tests.models import CLASSES, KINDS, LINEAR, ON_CONVOLUTIONS, SIZE, images, wrapped
from tests.photos_on_disk import write_folder
from tests.second_device import THERE, move, second_device

APPLICABLE = [
    (method, kind) for method in ON_CONVOLUTIONS.values() for kind in KINDS if kind in LINEAR or not method.needs_rows
]


def moved(model: DualBranch) -> DualBranch:
    move(model)
    assert model.device == THERE
    return model


def check_same(found: list[Explanation], expected: list[Explanation]) -> None:
    """All numbers are on the second device, and are those of the CPU."""
    assert len(found) == len(expected)
    for there, here in zip(found, expected, strict=True):
        pairs = [(there.signed, here.signed), (there.raw, here.raw), (there.probabilities, here.probabilities)]
        pairs += list(zip(there.logits, here.logits, strict=True))
        pairs += [(there.residuals, here.residuals)] if here.residuals is not None else []  # type: ignore[list-item]
        for ours, theirs in pairs:
            assert ours.device == THERE
            torch.testing.assert_close(ours.cpu(), theirs.detach(), rtol=1e-9, atol=1e-12)
        assert there.indices.device.type == "cpu"
        assert there.indices.tolist() == here.indices.tolist()
        assert there.is_finite
        for one, other in zip(there, here, strict=True):
            np.testing.assert_allclose(one.map, other.map, atol=1e-5)
            assert one.boxes() == other.boxes()


def variants(method: Method) -> Iterator[ExplainOptions]:
    tuning: dict[str, float | int | None] = {"samples": 2} if "samples" in method.reads else {}
    scores: list[Score] = ["log-odds"] if method.needs else ["logit", "log-odds", "finer", "rest"]
    for score in scores:
        yield {"method": method.name, "score": score, "sign": "signed", "tuning": tuning}
    yield {"method": method.name, "branch": "softmax", "tuning": tuning}
    yield {
        "method": method.name,
        "branch": "softmax",
        "sign": "negative",
        "clamp": "contributions",
        "normalize": "ivr",
        "tuning": tuning,
    }


@pytest.mark.parametrize(("method", "kind"), APPLICABLE, ids=[f"{method.name}-{kind}" for method, kind in APPLICABLE])
def test_every_method_stays_on_the_model_s_device(
    method: Method, kind: HeadKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = wrapped(kind), images()
    expected = [model.explain(batch, [0, 3], **options) for options in variants(method)]
    with second_device(monkeypatch):
        moved(model)
        for options, here in zip(variants(method), expected, strict=True):
            check_same(model.explain(batch, [0, 3], **options), here)


def test_the_device_refuses_what_an_accelerator_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The observer itself: a method that makes a tensor without a device must not pass, nor may NumPy read there."""
    ones = torch.ones(8, 1, 1, dtype=torch.float64)
    careless = Method("careless", lambda evidence: evidence.gradients * ones, "2030")
    monkeypatch.setitem(methods.available(), careless.name, careless)
    model = wrapped("mlp")
    with second_device(monkeypatch):
        moved(model)
        with pytest.raises(RuntimeError, match="same device"):
            model.explain(images(), [0], method="careless")
        there = torch.arange(3, device=THERE) + torch.tensor([1, 2, 3], device=THERE)
        assert (there.cpu().tolist(), there.tolist(), int(there[1])) == ([1, 3, 5], [1, 3, 5], 3)
        with pytest.raises((TypeError, RuntimeError)):
            there.numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [None, "all", "top2", torch.tensor([[1, 2], [0, 4]])])
def test_classes_of_every_form(kind: HeadKind, classes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrapped(kind)
    expected = model.explain(images(), classes)
    with second_device(monkeypatch):
        check_same(moved(model).explain(images(), classes), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_over_a_threshold_and_several_layers(kind: HeadKind, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrapped(kind)
    model.training_record = {"positive_weight": [2.0, 1.0, None, 4.0, 3.0]}
    layers = ["features.2", "features.5"]
    expected = model.explain(images(), "over0.2"), model.explain(images(), "all", layers=layers, sign="signed")
    assert any(len(explanation) for explanation in expected[0])
    with second_device(monkeypatch):
        moved(model)
        check_same(model.explain(images(), "over0.2"), expected[0])
        check_same(model.explain(images(), "all", layers=layers, sign="signed"), expected[1])


@pytest.mark.parametrize("kind", KINDS)
def test_maps_to_train_on(kind: HeadKind, monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients(model: DualBranch) -> list[Tensor]:
        batch = images().to(model.device).requires_grad_()
        found = evidence_maps(model, batch, [0, 3], method="grad-cam", create_graph=True, sign="signed")
        assert found.device == model.device
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        given = torch.autograd.grad(found.square().sum(), [batch, *parameters], allow_unused=True)
        return [gradient.cpu() for gradient in given if gradient is not None]

    model = wrapped(kind)
    expected = gradients(model)
    with second_device(monkeypatch):
        for one, other in zip(gradients(moved(model)), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def small_transformer() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.models.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=12, depth=2, num_heads=3, num_classes=CLASSES, reg_tokens=1
    )
    return model.double().eval()


@pytest.mark.parametrize("method", ["legrad", "grad-cam", "ablation-cam", "smooth-grad-cam++"])
def test_transformers(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = dualcam.wrap(small_transformer(), preprocessing=Preprocessing(size=(16, 16)))
    batch = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    options: dict[str, Any] = {"method": method, "sign": "signed"}
    options |= {"tuning": {"samples": 2}} if method.startswith("smooth") else {}
    expected = model.explain(batch, [0, 3], **options)
    with second_device(monkeypatch):
        check_same(moved(model).explain(batch, [0, 3], **options), expected)


def test_photos_and_what_is_drawn_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrapped("mlp", dtype=torch.float32)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8))
    expected = model.explain([photo, photo], "top2", fit="pad")
    with second_device(monkeypatch):
        found = moved(model).explain([photo, photo], "top2", fit="pad")
        check_same(found, expected)
        found[0].save(tmp_path / "overlay.png")
        found[0].save(tmp_path / "maps.npz")
        tensor_s = model.explain(images(1, torch.float32).to(THERE))
        assert tensor_s[0].overlay().size == SIZE[::-1]
    expected[0].save(tmp_path / "expected.png")
    assert (tmp_path / "overlay.png").read_bytes() == (tmp_path / "expected.png").read_bytes()


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
@pytest.mark.parametrize("kind", ["pooled-linear", "mlp", "tail"])
def test_a_branch_is_trained_there(
    kind: HeadKind, solver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if solver == "lbfgs" and kind == "mlp":
        return
    write_folder(tmp_path / "photos", {"a": 2, "b": 2, "c": 2, "d": 2, "e": 2})
    settings: dict[str, Any] = {"epochs": 2, "lr": 0.1, "solver": solver, "augment": "none"}

    def trained(model: DualBranch) -> list[Tensor]:
        branch = dualcam.fit(
            model, tmp_path / "photos", cache=solver == "sgd" or kind != "mlp", **settings
        ).sigmoid_head
        assert all(parameter.device == model.device for parameter in branch.parameters())
        return [parameter.detach().cpu() for parameter in branch.parameters()]

    model = wrapped(kind, dtype=torch.float32)
    start = [parameter.detach().clone() for parameter in model.sigmoid_head.parameters()]
    expected = trained(model)
    assert any(not torch.equal(one, other) for one, other in zip(start, expected, strict=True))
    with second_device(monkeypatch):
        for one, other in zip(trained(moved(model)), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["pooled-linear", "tail"])
def test_maps_are_judged_there(kind: HeadKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "photos", {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1})
    model = wrapped(kind, dtype=torch.float32)
    photos = choose_photos(model, tmp_path / "photos", truth_needed=False)
    grid = make_grid(model, method=("grad-cam", "layer-cam"), branch=("softmax", "softmax-log-odds", "sigmoid"))
    fidelity = choose_fidelity(("all",), FidelitySettings(steps=2), truth=False)

    def judged(model: DualBranch, out: Path) -> NDArray[Any]:
        work = Evaluation(
            model=model,
            photos=photos,
            kinds=tuple(grid.computed),
            views=make_views(model.preprocessing),
            protocol=Protocol(grid.normalizations),
            fidelity=fidelity,
        )
        records = Records(out, {}, work.record_type(), len(photos))
        with Progress(disable=True) as progress:
            assert run_evaluation(work, records, progress) == {}
        return records.rows

    expected = judged(model, tmp_path / "here")
    with second_device(monkeypatch):
        found = judged(moved(model), tmp_path / "there")
    assert found.dtype == expected.dtype
    assert found.dtype.names is not None
    for name in found.dtype.names:
        if found[name].dtype.kind == "f":
            np.testing.assert_allclose(found[name], expected[name], atol=1e-4, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
