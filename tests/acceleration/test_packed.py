"""Packed convolutions compute what the convolutions that they stand for do, whatever happens to them."""

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from dualcam.acceleration.packed import PackedConv2d, pack_convolutions


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes for which weights were packed, in order."""
    shapes: list[torch.Size] = []
    original = PackedConv2d._blocked

    def count(self: PackedConv2d, shape: torch.Size) -> Tensor:
        shapes.append(shape)
        return original(self, shape)

    monkeypatch.setattr(PackedConv2d, "_blocked", count)
    return shapes


def pair(**options: Any) -> tuple[nn.Conv2d, PackedConv2d]:
    """Return a convolution and its packed form, with parameters that are frozen."""
    convolution = nn.Conv2d(4, 6, 3, **options).requires_grad_(False)
    return convolution, PackedConv2d.of(convolution)


def assert_same(packed: nn.Module, plain: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(packed(images), plain(images), rtol=1e-5, atol=1e-6)


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 8]),
    bias=st.booleans(),
    batch=st.integers(1, 3),
    side=st.integers(7, 12),
    last=st.booleans(),
    inference=st.booleans(),
)
def test_every_geometry(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: int,
    groups: int,
    bias: bool,
    batch: int,
    side: int,
    last: bool,
    inference: bool,
) -> None:
    convolution = nn.Conv2d(8, 16, kernel, stride, padding, dilation, groups, bias).requires_grad_(False)
    layout = torch.channels_last if last else torch.contiguous_format
    convolution.to(memory_format=layout)
    images = torch.randn(batch, 8, side, side + 1).contiguous(memory_format=layout)
    with torch.inference_mode(inference):
        found = PackedConv2d.of(convolution)(images)
        torch.testing.assert_close(found, convolution(images), rtol=1e-5, atol=1e-5)


def test_weights_are_packed_once_a_shape(blocked: list[torch.Size]) -> None:
    plain, packed = pair(padding=1)
    one, two = torch.randn(1, 4, 9, 9), torch.randn(2, 4, 9, 9)
    for images in (one, one, two, two, one):
        assert_same(packed, plain, images)
    assert blocked == [one.shape, two.shape, one.shape]


def in_place(packed: PackedConv2d) -> None:
    packed.weight.mul_(2)


def by_state(packed: PackedConv2d) -> None:
    packed.load_state_dict({name: value + 1 for name, value in packed.state_dict().items()})


def by_assignment(packed: PackedConv2d) -> None:
    packed.load_state_dict({name: value + 1 for name, value in packed.state_dict().items()}, assign=True)


def another(packed: PackedConv2d) -> None:
    packed.weight = nn.Parameter(torch.randn_like(packed.weight), requires_grad=False)


def through_half(packed: PackedConv2d) -> None:
    packed.half().float()


@pytest.mark.parametrize("change", [in_place, by_state, by_assignment, another, through_half])
def test_changed_weights_are_packed_again(change: Callable[[PackedConv2d], None]) -> None:
    plain, packed = pair()
    images = torch.randn(2, 4, 8, 8)
    assert_same(packed, plain, images)
    before = packed(images)
    change(packed)
    plain.load_state_dict(packed.state_dict())
    assert_same(packed, plain, images)
    assert not torch.equal(packed(images), before)


def test_copies_and_pickles_leave_the_blocked_form_out(blocked: list[torch.Size]) -> None:
    plain, packed = pair()
    images = torch.randn(2, 4, 8, 8)
    packed(images)
    for twin in (deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert "_packed" not in vars(twin)
        assert_same(twin, plain, images)
    assert len(blocked) == 3
    assert packed.state_dict().keys() == plain.state_dict().keys()


def test_gradients_flow(blocked: list[torch.Size]) -> None:
    plain, packed = pair()
    images = torch.randn(2, 4, 8, 8)
    grads = []
    for module in (plain, packed):
        leaf = images.clone().requires_grad_()
        module(leaf).square().sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[0], grads[1])
    packed.weight.requires_grad_(True)
    packed(images).sum().backward()
    assert packed.weight.grad is not None
    assert blocked == []


@pytest.mark.parametrize(
    "dress", [lambda m, x: (m.double(), x.double()), lambda m, x: (m, x[0]), lambda m, x: (m, x[:0])]
)
def test_what_the_blocked_form_does_not_serve(
    dress: Callable[[nn.Module, Tensor], tuple[nn.Module, Tensor]], blocked: list[torch.Size]
) -> None:
    plain, packed = pair()
    images = torch.randn(2, 4, 8, 8)
    one, other = dress(packed, images), dress(plain, images)
    assert_same(one[0], other[0], one[1])
    assert blocked == []


def test_autocast_and_tracing_see_a_plain_convolution(blocked: list[torch.Size]) -> None:
    plain, packed = pair()
    images = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(packed(images), plain(images))
        exported = torch.export.export(nn.Sequential(packed).eval(), (images,))
    assert "mkldnn" not in str(exported.graph)
    assert blocked == []


def test_threads_with_images_of_different_shapes() -> None:
    plain, packed = pair(padding=1)
    batches = [torch.randn(1 + seed % 3, 4, 8 + seed % 2, 8) for seed in range(60)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda images: assert_same(packed, plain, images), batches))


class Odd(nn.Conv2d):
    """A convolution of the user's own."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu(super().forward(input))


def test_only_plain_convolutions_are_replaced() -> None:
    hooked, shared, head = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    handle = hooked.register_forward_hook(lambda *_: None)
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        Odd(4, 4, 1),
        parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
        hooked,
        shared,
        shared,
        head,
    ).requires_grad_(False)
    twin, images = deepcopy(model), torch.randn(2, 4, 7, 7)
    assert pack_convolutions(model, {head}) == 2
    assert [type(module) is PackedConv2d for module in model] == [True, *5 * [False], True, True, False]
    assert model[6] is model[7]
    assert_same(model, twin, images)
    handle.remove()
