"""What breaks other libraries, situation by situation, works here; nothing of the model is left changed."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import dualcam
from dualcam import DualBranch
from dualcam.errors import ChoiceError
from dualcam.types import HeadKind
from tests.models import CLASSES, KINDS, PREPROCESSING, Tiny, images, maps, tiny, wrapped
from tests.observe import changed, snapshot

SINGLE = torch.float32


class Situation(NamedTuple):
    """How a model is dressed, in which context it is explained, and how far its maps may be from the plain one's."""

    dress: Callable[[Tiny], nn.Module] = lambda model: model
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    tolerance: float = 0.0


class Dressed(nn.Module):
    """A classifier that returns its logits as other libraries do."""

    def __init__(self, model: Tiny, dress: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.model = model
        self.dress = dress

    def forward(self, batch: Tensor) -> Any:
        return self.dress(self.model(batch))


def with_grads(model: Tiny) -> nn.Module:
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    return model


class Deterministic:
    """Deterministic algorithms only, as some training scripts ask for; given back after."""

    def __enter__(self) -> None:
        torch.use_deterministic_algorithms(True)

    def __exit__(self, *_: object) -> None:
        torch.use_deterministic_algorithms(False)


SITUATIONS = {
    "no_grad": Situation(context=torch.no_grad),
    "inference_mode": Situation(context=torch.inference_mode),
    "frozen": Situation(lambda model: model.requires_grad_(False)),
    "frozen under no_grad": Situation(lambda model: model.requires_grad_(False), torch.no_grad),
    "bf16": Situation(lambda model: model.bfloat16(), tolerance=0.1),
    "fp16": Situation(lambda model: model.half(), tolerance=0.1),
    "autocast": Situation(context=lambda: torch.autocast("cpu", dtype=torch.bfloat16), tolerance=0.1),
    "dict output": Situation(lambda model: Dressed(model, lambda logits: {"logits": logits, "loss": None})),
    "tuple output": Situation(lambda model: Dressed(model, lambda logits: (logits, logits * 0))),
    "train mode": Situation(lambda model: model.train()),
    "gradients kept": Situation(with_grads),
    "channels last": Situation(
        lambda model: model.to(memory_format=torch.channels_last),
        tolerance=1e-5,
    ),
    "anomaly detection": Situation(  # walks classes back one by one, which rounds otherwise than all at once
        context=lambda: torch.autograd.set_detect_anomaly(True), tolerance=1e-6
    ),
    "deterministic algorithms": Situation(context=Deterministic),
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("name", SITUATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_maps_are_the_plain_model_s(kind: HeadKind, name: str) -> None:
    dress, context, tolerance = SITUATIONS[name]
    batch = images(dtype=SINGLE)
    plain = dualcam.wrap(tiny(kind, dtype=SINGLE), preprocessing=PREPROCESSING)
    expected = maps(plain.explain(batch, "all", method="grad-cam", sign="signed"))
    classifier = dress(tiny(kind, dtype=SINGLE))
    before = snapshot(classifier)
    with context():
        model = dualcam.wrap(classifier, preprocessing=PREPROCESSING)
        found = maps(model.explain(batch, "all", method="grad-cam", sign="signed"))
    assert changed(before, snapshot(classifier)) == []
    assert not found.requires_grad
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_train_mode_model_s_statistics_are_untouched(kind: HeadKind) -> None:
    """The mode is the user's, and so are the running statistics and the number of batches behind them."""
    classifier = tiny(kind).train()
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.get_buffer("num_batches_tracked").fill_(7)
    before = {name: buffer.clone() for name, buffer in classifier.named_buffers()}
    model = dualcam.wrap(classifier, preprocessing=PREPROCESSING)
    model.explain(images(), "all", method="layer-cam")
    assert all(module.training for module in classifier.modules())
    assert before.keys() == dict(classifier.named_buffers()).keys()
    for name, buffer in classifier.named_buffers():
        assert torch.equal(buffer, before[name])


@pytest.mark.parametrize("given", [torch.tensor([1]), torch.tensor([[1, 2]]), torch.tensor([0, 1, 2, 3])])
@pytest.mark.parametrize("kind", KINDS)
def test_targets_of_another_number_than_images(kind: HeadKind, given: Tensor) -> None:
    model = wrapped(kind)
    before = snapshot(model)
    with pytest.raises(ChoiceError, match=r"\[B\] or \[B, K\] with B=3 images; got"):
        model.explain(images(3), given)
    assert changed(before, snapshot(model)) == []


class Boom(RuntimeError):
    """Thrown by a test in the middle of a call."""


def explode(*_: Any) -> None:
    raise Boom


def in_user_hook(model: DualBranch) -> Callable[[], None]:
    return model.classifier.get_submodule("features.1").register_forward_hook(explode).remove


def in_layer_hook(model: DualBranch) -> Callable[[], None]:
    return model.classifier.get_submodule(model.anatomy.layer).register_forward_hook(explode).remove


def in_head_hook(model: DualBranch) -> Callable[[], None]:
    return next(iter(model.sigmoid_head.parts)).register_forward_hook(explode).remove


def in_backward_hook(model: DualBranch) -> Callable[[], None]:
    last = model.sigmoid_head.last_layer()
    assert last is not None
    return last.register_full_backward_hook(explode).remove


@pytest.mark.parametrize("where", [in_user_hook, in_layer_hook, in_head_hook, in_backward_hook])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("pooled")])
def test_an_exception_anywhere_leaves_nothing_behind(kind: HeadKind, where: Callable[[DualBranch], Any]) -> None:
    model = wrapped(kind).train()
    expected = maps(model.explain(images(), "all"))
    remove = where(model)
    before = snapshot(model)
    with pytest.raises(Boom):
        model.explain(images(), "all")
    assert changed(before, snapshot(model)) == []
    remove()
    assert torch.equal(maps(model.explain(images(), "all")), expected)


def test_the_user_s_own_hooks_see_one_forward_each() -> None:
    """A forward is the user's too: their hooks count, record, or cost time, so there is exactly one."""
    model = wrapped("mlp")
    seen: list[int] = []
    model.classifier.register_forward_hook(lambda *_: seen.append(1))
    model.explain(images(), list(range(CLASSES)), method="layer-cam")
    assert len(seen) == 1


@pytest.mark.parametrize("classes", [None, "all"])
def test_the_sigmoid_head_runs_once(classes: str | None) -> None:
    """An MLP head may weigh more than the rest of the forward: logits and gradients come from one run of it."""
    model = wrapped("mlp")
    expected = model(images()).sigmoid
    seen: list[int] = []
    model.sigmoid_head.register_forward_hook(lambda *_: seen.append(1))
    explanations = model.explain(images(), classes, method="layer-cam")
    assert len(seen) == 1
    for row, explanation in zip(expected, explanations, strict=True):
        torch.testing.assert_close(explanation.logits.sigmoid, row[explanation.indices])
        assert not explanation.logits.sigmoid.requires_grad
