"""A user's model is given back as it was, whatever happens, and works in whatever state it comes."""

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dualcam
from dualcam import DualBranch, methods
from dualcam.errors import ChoiceError, ClassNotFound
from dualcam.methods import Method
from dualcam.types import HeadKind
from tests.models import CLASSES, KINDS, LINEAR, ON_CONVOLUTIONS, PREPROCESSING, Tiny, images, maps, tiny, wrapped
from tests.observe import changed, snapshot

CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "plain": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "enable_grad": torch.enable_grad,
}


class Boom(RuntimeError):
    """Thrown by a test in the middle of a call."""


class Fuse(nn.Module):
    """The identity until it is lit."""

    def __init__(self) -> None:
        super().__init__()
        self.lit = False

    def forward(self, value: Tensor) -> Tensor:
        if self.lit:
            raise Boom
        return value


def awkward(kind: HeadKind, activation: type[nn.Module] = nn.ReLU) -> Tiny:
    """Return a classifier as users have them: mixed modes, mixed flags, gradients kept, a hook of their own."""
    model = tiny(kind, activation)
    model.train()
    model.features[1].eval()
    model.features[0].get_parameter("weight").requires_grad_(False)
    kept = model.features[3].get_parameter("weight")
    kept.grad = torch.full_like(kept, 0.25)
    next(model.head.parameters()).grad = torch.ones_like(next(model.head.parameters()))
    model.features[2].register_forward_hook(lambda *_: None)
    model.head.register_forward_pre_hook(lambda *_: None)
    return model


@contextmanager
def untouched(*models: nn.Module) -> Iterator[None]:
    """Compare everything observable about ``models`` before and after the block."""
    before = [snapshot(model) for model in models]
    grad_mode = torch.is_grad_enabled()
    yield
    assert torch.is_grad_enabled() == grad_mode
    for model, seen in zip(models, before, strict=True):
        assert changed(seen, snapshot(model)) == []


def test_the_comparison_sees_changes() -> None:
    """The observer itself: each of these must show."""
    model = tiny("pooled-linear").train()
    deeds: list[Callable[[], Any]] = [
        lambda: model(images()),  # batch statistics
        model.features[1].eval,
        lambda: model.features[2].register_forward_hook(lambda *_: None),
        lambda: model.head.register_full_backward_hook(lambda *_: None),
        lambda: model.features[0].get_parameter("weight").requires_grad_(False),
        lambda: model(images()).sum().backward(),
        model.float,
        lambda: setattr(model.features[2], "note", 1),
    ]
    for deed in deeds:
        before = snapshot(model)
        deed()
        assert changed(before, snapshot(model))


@pytest.mark.parametrize("kind", KINDS)
def test_wrapping_changes_nothing(kind: HeadKind) -> None:
    classifier = awkward(kind)
    with untouched(classifier):
        model = dualcam.wrap(classifier, preprocessing=PREPROCESSING)
        model.describe()
    assert model.training
    assert model.classifier is classifier


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_explaining_changes_nothing(kind: HeadKind, context: str) -> None:
    model = dualcam.wrap(awkward(kind), preprocessing=PREPROCESSING)
    with untouched(model, model.classifier, model.softmax_head), CONTEXTS[context]():
        for method in ON_CONVOLUTIONS.values():
            if kind not in LINEAR and method.needs_rows:
                continue
            for branch in ("softmax", "sigmoid"):
                model.explain(images(), "top3", method=method.name, branch=branch, score="log-odds")


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_context_and_the_mode_do_not_change_the_maps(kind: HeadKind, context: str) -> None:
    expected = maps(wrapped(kind).explain(images(), "all", sign="signed"))
    model = wrapped(kind)
    model.train()
    with CONTEXTS[context]():
        found = maps(model.explain(images(), "all", sign="signed"))
    assert torch.equal(found, expected)
    assert not found.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_wrapping_in_inference_mode(kind: HeadKind) -> None:
    classifier = tiny(kind)
    with torch.inference_mode():
        model = dualcam.wrap(classifier, preprocessing=PREPROCESSING)
        found = maps(model.explain(images(), "all"))
    expected = maps(dualcam.wrap(tiny(kind), preprocessing=PREPROCESSING).explain(images(), "all"))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    outside = maps(model.explain(images(), "all"))
    torch.testing.assert_close(outside, expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parameters(kind: HeadKind) -> None:
    expected = maps(wrapped(kind).explain(images(), "all"))
    model = wrapped(kind).requires_grad_(False)
    with untouched(model):
        assert torch.equal(maps(model.explain(images(), "all")), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_images_that_want_gradients_and_other_types(kind: HeadKind) -> None:
    model = wrapped(kind)
    expected = maps(model.explain(images(), "all"))
    batch = images().requires_grad_()
    with untouched(model):
        assert torch.equal(maps(model.explain(batch, "all")), expected)
    assert batch.grad is None
    single = maps(model.explain(images().float(), "all"))
    assert single.dtype == torch.float64
    torch.testing.assert_close(single, expected, rtol=1e-3, atol=1e-3)


def lit(model: DualBranch, where: str) -> Callable[[], Any]:
    """Return a call that ends in an error in the given place, and its cause must come through."""
    fuse = model.classifier.get_submodule("fuse" if where != "head" else "head.fuse")
    assert isinstance(fuse, Fuse)
    fuse.lit = True
    return lambda: model.explain(images(), "all", method="grad-cam", branch="softmax")


class Fused(Tiny):
    """A tiny classifier with a fuse before the features and one in the head."""

    def __init__(self, kind: HeadKind) -> None:
        super().__init__(kind)
        self.fuse = Fuse()
        self.head = nn.Sequential(*self.head)
        self.head.add_module("fuse", Fuse())

    def forward(self, batch: Tensor) -> Tensor:
        logits: Tensor = self.head(self.attended(self.features(self.fuse(batch))))
        return logits


@pytest.mark.parametrize("where", ["backbone", "head"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_in_the_forward_leaves_nothing(kind: HeadKind, where: str) -> None:
    torch.manual_seed(0)
    classifier = Fused(kind).double().train()
    classifier.features[1].eval()
    model = dualcam.wrap(classifier, preprocessing=PREPROCESSING)
    call = lit(model, where)
    with untouched(model, classifier), pytest.raises(Boom):
        call()
    model.eval()
    with untouched(model, classifier), pytest.raises(Boom):
        model(images())
    for module in classifier.modules():
        if isinstance(module, Fuse):
            module.lit = False
    assert torch.isfinite(maps(model.explain(images(), "all"))).all()


@pytest.mark.parametrize("where", ["backbone", "head"])
def test_an_exception_while_wrapping_leaves_nothing(where: str) -> None:
    classifier = Fused("mlp").double().train()
    classifier.features[1].eval()
    fuse = classifier.get_submodule("fuse" if where == "backbone" else "head.fuse")
    assert isinstance(fuse, Fuse)
    fuse.lit = True
    with untouched(classifier), pytest.raises((Boom, dualcam.DualcamError)):
        dualcam.wrap(classifier, preprocessing=PREPROCESSING)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_in_a_method_leaves_nothing(kind: HeadKind, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(_evidence: Any) -> Tensor:
        raise Boom

    monkeypatch.setitem(methods.available(), "explosive", Method("explosive", explode, "2030"))
    model = dualcam.wrap(awkward(kind), preprocessing=PREPROCESSING)
    with untouched(model, model.classifier), pytest.raises(Boom):
        model.explain(images(), method="explosive")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("classes", "options", "error"),
    [
        (CLASSES, {}, ClassNotFound),
        ("zebra", {}, ClassNotFound),
        (torch.tensor([0, 1, 2]), {}, ChoiceError),
        ([], {}, ChoiceError),
        (0, {"branch": "relu"}, ChoiceError),
        (0, {"sign": "up"}, ChoiceError),
        (0, {"score": "odds"}, ChoiceError),
        (0, {"normalize": "l2"}, ChoiceError),
        (0, {"clamp": "never"}, ChoiceError),
    ],
)
def test_a_refused_call_leaves_nothing(
    kind: HeadKind, classes: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    model = dualcam.wrap(awkward(kind), preprocessing=PREPROCESSING)
    with untouched(model, model.classifier), pytest.raises(error):
        model.explain(images(), classes, **options)


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="colour"):
        wrapped("mlp").explain(images(), colour="red")  # type: ignore[call-arg]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("kind", KINDS)
def test_autocast_keeps_the_model_and_the_maps(kind: HeadKind, activation: type[nn.Module]) -> None:
    batch = images(dtype=torch.float32)
    expected = maps(wrapped(kind, activation, dtype=torch.float32).explain(batch, "all", sign="signed"))
    model = wrapped(kind, activation, dtype=torch.float32)
    for method in ON_CONVOLUTIONS.values():
        if kind not in LINEAR and method.needs_rows:
            continue
        with untouched(model), torch.autocast("cpu", dtype=torch.bfloat16):
            raw = maps(model.explain(batch, "all", sign="signed", method=method.name))
        assert raw.dtype == torch.float32
        assert torch.isfinite(raw).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = maps(model.explain(batch, "all", sign="signed"))
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("kind", KINDS)
def test_models_in_half_precision(kind: HeadKind, activation: type[nn.Module], dtype: torch.dtype) -> None:
    batch = images(dtype=torch.float32)
    expected = maps(wrapped(kind, activation, dtype=torch.float32).explain(batch, "all", sign="signed"))
    model = wrapped(kind, activation, dtype=dtype)
    assert model.softmax_head.kind == kind
    assert model.dtype == dtype
    with untouched(model):
        found = maps(model.explain(batch, "all", sign="signed"))
        model.explain(batch, "all", score="probability")
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()


def test_a_head_given_by_hand_is_put_in_eval_mode_and_back() -> None:
    """It is no part of the classifier, so nobody else would."""
    torch.manual_seed(0)
    classifier = tiny("pooled-linear")
    linear = classifier.head[3]
    assert isinstance(linear, nn.Linear)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.9), linear)
    head.train()
    model = dualcam.wrap(classifier, layer="features", head=head, preprocessing=PREPROCESSING)
    assert head.training
    for branch in ("softmax", "sigmoid"):
        one, other = (maps(model.explain(images(), "all", branch=branch, method="layer-cam")) for _ in range(2))
        assert torch.equal(one, other)
    assert all(module.training for module in head[:3])


def test_calls_in_a_loop_leave_no_tensors_behind() -> None:
    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(item), Tensor) for item in gc.get_objects())

    model = wrapped("mlp")
    model.explain(images())
    before = alive()
    for _ in range(5):
        model.explain(images(), "all")
    assert alive() == before


def test_threads_share_a_model() -> None:
    model = wrapped("mlp")
    batches = [images(seed=seed) for seed in range(8)]
    expected = [maps(model.explain(batch, "all")) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: maps(model.explain(batch, "all")), batches))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_no_gradient_of_the_sigmoid_branch_reaches_the_backbone() -> None:
    model = wrapped("mlp")
    model(images()).sigmoid.sum().backward()
    assert all(parameter.grad is None for parameter in model.classifier.parameters())
    assert all(parameter.grad is not None for parameter in model.sigmoid_head.parameters())
