"""A `DualBranch` can be copied, pickled, and stored by its state, and is then a model of its own."""

import io
import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import cast

import pytest
import torch

import dualcam
from dualcam import DualBranch
from dualcam.types import HeadKind
from tests.models import KINDS, PREPROCESSING, images, maps, tiny, wrapped
from tests.observe import changed, snapshot


def through_pickle(model: DualBranch) -> DualBranch:
    return cast(DualBranch, pickle.loads(pickle.dumps(model)))


def through_torch(model: DualBranch) -> DualBranch:
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    return cast(DualBranch, torch.load(stream, weights_only=False))


COPIES: list[Callable[[DualBranch], DualBranch]] = [deepcopy, through_pickle, through_torch]


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_says_the_same_and_shares_nothing(kind: HeadKind, copy: Callable[[DualBranch], DualBranch]) -> None:
    model = wrapped(kind)
    model.explain(images(), "all", branch="softmax")
    twin = copy(model)
    for branch in ("softmax", "sigmoid"):
        expected = maps(model.explain(images(), "all", branch=branch))
        assert torch.equal(maps(twin.explain(images(), "all", branch=branch)), expected)
    assert twin.describe() == model.describe()
    before, expected = snapshot(model), maps(model.explain(images(), "all"))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    assert changed(before, snapshot(model)) == []
    assert torch.equal(maps(model.explain(images(), "all")), expected)
    assert not torch.equal(maps(twin.explain(images(), "all")), expected)


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_s_softmax_head_is_its_own_classifier_s(
    kind: HeadKind, copy: Callable[[DualBranch], DualBranch]
) -> None:
    twin = copy(wrapped(kind))
    own = {id(parameter) for parameter in twin.classifier.parameters()}
    assert {id(parameter) for parameter in twin.softmax_head.parameters()} <= own
    assert not own & {id(parameter) for parameter in twin.sigmoid_head.parameters()}
    with torch.no_grad():
        for parameter in twin.softmax_head.parameters():
            parameter.zero_()
    assert not twin(images()).softmax.any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_dict_makes_another_model_this_one(kind: HeadKind) -> None:
    model = wrapped(kind)
    other = dualcam.wrap(tiny(kind, seed=5), preprocessing=PREPROCESSING)
    expected = model.explain(images(), "all", branch="softmax"), model.explain(images(), "all")
    assert not torch.equal(maps(other.explain(images(), "all")), maps(expected[1]))
    state = model.state_dict()
    assert len({value.data_ptr() for value in state.values() if value.numel()}) == len(state), "a tensor stands twice"
    other.load_state_dict(state)
    assert torch.equal(maps(other.explain(images(), "all", branch="softmax")), maps(expected[0]))
    assert torch.equal(maps(other.explain(images(), "all")), maps(expected[1]))


def test_a_module_moved_to_another_type_takes_its_heads_along() -> None:
    model = wrapped("mlp").float()
    assert model.dtype == torch.float32
    assert {parameter.dtype for parameter in model.softmax_head.parameters()} == {torch.float32}
    assert maps(model.explain(images(dtype=torch.float32))).dtype == torch.float32
