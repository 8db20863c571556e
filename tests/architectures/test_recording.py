"""What `wrap` keeps of a forward: of models too large to keep all, the last calls, in which the same is found."""

import weakref
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dualcam import examine, recording
from dualcam.anatomy import Anatomy
from dualcam.recording import differentiated, recorded
from tests.architectures.test_walk import SAMPLE
from tools import architectures

FEW_CALLS = 40
DEEPER = ["cait", "davit", "densenet", "hgnet", "maxxvit", "pit", "regnet", "swin_transformer", "volo"]


class Deep(nn.Sequential):
    """Many layers, each with an output of its own."""

    def __init__(self, layers: int) -> None:
        super().__init__(*(nn.Linear(8, 8) for _ in range(layers)))


def parts(anatomy: Anatomy) -> Anatomy:
    return replace(anatomy, head=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", [*SAMPLE, *DEEPER])
def test_the_last_calls_are_enough(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = architectures.members()[family]
    whole = architectures.look(family, name)
    assert whole.model is not None
    monkeypatch.setattr(examine, "MOST_KEPT", 0)
    monkeypatch.setattr(recording, "LEAST_CALLS", FEW_CALLS)
    few = architectures.look(family, name)
    assert few.model is not None
    assert parts(few.model.anatomy) == parts(whole.model.anatomy)
    assert few.model.softmax_head.kind == whole.model.softmax_head.kind
    assert few.model.softmax_head.describe_steps() == whole.model.softmax_head.describe_steps()


def test_a_layer_far_from_the_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "MOST_KEPT", 0)
    monkeypatch.setattr(recording, "LEAST_CALLS", 4)
    model = architectures.build("resnet10t")
    anatomy = examine.examine(model, (64, 64), layer="layer3")
    assert (anatomy.layer, anatomy.grid) == ("layer3", (4, 4))


def test_first_calls_are_let_go_and_freed() -> None:
    model, images = Deep(300), torch.randn(2, 8)
    freed: list[weakref.ref[Tensor]] = []
    first = next(model.children()).register_forward_hook(
        lambda _module, _inputs, output: freed.append(weakref.ref(output))
    )
    with torch.no_grad(), recorded(model, most=150 * images.nbytes) as kept:
        model(images)
    first.remove()
    assert kept.size == 150 * images.nbytes
    assert len(kept.calls) + kept.let_go == len(kept.shapes) == 301
    assert freed[0]() is None
    distinct = {id(each): each for call in kept.calls for each in (call.output, *call.inputs)}
    assert kept.size == sum(each.nbytes for each in distinct.values())


def test_the_least_calls_are_kept() -> None:
    model = Deep(300)
    with torch.no_grad(), recorded(model, most=0) as kept:
        model(torch.randn(2, 8))
    assert len(kept.calls) == recording.LEAST_CALLS


def test_all_calls_are_kept_by_default() -> None:
    model = Deep(300)
    with torch.no_grad(), recorded(model) as kept:
        model(torch.randn(2, 8))
    assert (len(kept.calls), kept.let_go) == (301, 0)


def test_gradients_are_recorded_from_a_call_on() -> None:
    model = Deep(6).requires_grad_(False)
    with differentiated(model, 4), recorded(model) as kept:
        logits = model(torch.randn(2, 8))
    assert [call.output.requires_grad for call in kept.calls] == [False] * 4 + [True] * 3
    assert not [handle for module in model.modules() for handle in module._forward_hooks]
    assert torch.is_grad_enabled()
    (gradient,) = torch.autograd.grad(logits.sum(), kept.calls[4].output)
    torch.testing.assert_close(gradient, model.get_parameter("5.weight").sum(0).expand(2, -1))
