"""Every tensor follows the model's device: the pipeline on a device that this machine does not have.

Fake tensors know shape, type and device, and refuse operations between devices as an accelerator does. Autograd's
engine wants a driver, so calls to it are answered with zeros where the activations are; and the one question about
values, how many classes each image has, with the number that was asked for. All else is the real code.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from dualcam import methods
from dualcam.explainer import ExplainOptions
from dualcam.methods import Method
from dualcam.targets import SCORES
from dualcam.types import HeadKind, Score
from tests.models import KINDS, LINEAR, ON_CONVOLUTIONS, SIZE, images, wrapped

ASKED = [0, 3]
ELSEWHERE = torch.device("cuda", 0)
APPLICABLE = [
    (method, kind) for method in ON_CONVOLUTIONS.values() for kind in KINDS if kind in LINEAR or not method.needs_rows
]


@contextmanager
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make fake tensors, on devices that need not be there, inside of the block."""

    def grad(
        outputs: Any, inputs: Any, directions: Any = (), *, is_grads_batched: bool = False, **_: Any
    ) -> tuple[Tensor, ...]:
        assert all(item.device == ELSEWHERE for item in (*_several(outputs), *_several(inputs), *_several(directions)))
        leading = (len(directions),) if is_grads_batched else ()
        return tuple(item.new_zeros(*leading, *item.shape) for item in _several(inputs))

    with monkeypatch.context() as patch, FakeTensorMode(allow_non_fake_inputs=True):
        patch.setattr(torch.autograd, "grad", grad)
        patch.setattr(FakeTensor, "tolist", lambda self: [len(ASKED)] * len(self))
        yield


def _several(value: Any) -> Sequence[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def move(model: nn.Module) -> None:
    """Put fake parameters and buffers of the other device in the place of the real ones, shared ones once."""
    new: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                fake = new.setdefault(id(parameter), nn.Parameter(torch.empty_like(parameter, device=ELSEWHERE)))
                module._parameters[name] = fake
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty_like(buffer, device=ELSEWHERE)


@pytest.mark.parametrize(("method", "kind"), APPLICABLE, ids=[f"{method.name}-{kind}" for method, kind in APPLICABLE])
def test_every_method_stays_on_the_model_s_device(
    method: Method, kind: HeadKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = wrapped(kind, dtype=torch.float32)
    batch = images(dtype=torch.float32)
    with elsewhere(monkeypatch):
        move(model)
        assert model.device == ELSEWHERE
        for options in variants(method):
            for explanation in model.explain(torch.empty_like(batch), ASKED, **options):
                assert explanation.signed.device == explanation.raw.device == ELSEWHERE
                assert explanation.probabilities.device == ELSEWHERE
                assert explanation.logits.sigmoid.device == explanation.logits.softmax.device == ELSEWHERE
                assert explanation.residuals is None or explanation.residuals.device == ELSEWHERE
                assert explanation.indices.device.type == "cpu"


def test_the_comparison_sees_a_tensor_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The observer itself: a method that makes a tensor without a device must not pass."""
    careless = Method("careless", lambda evidence: evidence.gradients * torch.ones(8, 1, 1), "2030")
    monkeypatch.setitem(methods.available(), careless.name, careless)
    model = wrapped("mlp", dtype=torch.float32)
    with elsewhere(monkeypatch):
        move(model)
        with pytest.raises(RuntimeError, match=r"same device|different devices"):
            model.explain(torch.empty(2, 3, *SIZE), ASKED, method="careless")


@pytest.mark.parametrize("kind", KINDS)
def test_both_branches_logits_stay_there_too(kind: HeadKind, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrapped(kind, dtype=torch.float32)
    with elsewhere(monkeypatch):
        move(model)
        logits = model(torch.empty(2, 3, *SIZE, device=ELSEWHERE))
        assert logits.softmax.device == logits.sigmoid.device == ELSEWHERE
        assert model.activations(torch.empty(2, 3, *SIZE, device=ELSEWHERE)).device == ELSEWHERE


def variants(method: Method) -> Iterator[ExplainOptions]:
    scores: list[Score] = ["log-odds"] if method.needs else list(SCORES)  # what asks the model again takes its time
    for score in scores:
        yield {"method": method.name, "score": score, "branch": "sigmoid", "sign": "signed"}
    yield {"method": method.name, "branch": "softmax", "sign": "positive"}
    yield {"method": method.name, "branch": "softmax", "sign": "negative", "clamp": "contributions"}
