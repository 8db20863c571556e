"""Packed layers compute what the layers that they stand for do, whatever happens to them."""

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

from dualcam.acceleration.blocked import Keeping
from dualcam.acceleration.packed import PackedAttention, PackedConv2d, PackedLinear


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes for which weights were packed, in order."""
    shapes: list[torch.Size] = []

    def counting(original: Callable[[Any, Tensor, torch.Size], Tensor]) -> Callable[[Any, Tensor, torch.Size], Tensor]:
        def count(self: Keeping, weight: Tensor, shape: torch.Size) -> Tensor:
            shapes.append(shape)
            return original(self, weight, shape)

        return count

    for kind in (PackedConv2d, PackedLinear, PackedAttention):
        monkeypatch.setattr(kind, "_pack", counting(kind._pack))
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


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda values: values,
    "strided": lambda values: torch.stack([values, values], -1)[..., 0],
    "transposed": lambda values: values.transpose(0, -1).contiguous().transpose(0, -1),
    "expanded": lambda values: values[:1].expand(values.shape),
    "unaligned": lambda values: torch.cat([torch.zeros(1), values.flatten()])[1:].view(values.shape),
}


@given(
    leading=st.lists(st.integers(1, 4), max_size=3),
    features=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    bias=st.booleans(),
    layout=st.sampled_from(sorted(LAYOUTS)),
    inference=st.booleans(),
)
def test_linear_layers_of_every_shape(
    leading: list[int], features: tuple[int, int], bias: bool, layout: str, inference: bool
) -> None:
    linear = nn.Linear(*features, bias=bias).requires_grad_(False)
    packed, values = PackedLinear.of(linear), LAYOUTS[layout](torch.randn(*leading, features[0]))
    with torch.inference_mode(inference):
        torch.testing.assert_close(packed(values), linear(values), rtol=1e-5, atol=1e-5)
    assert len(vars(packed)["_packed"]) == 1


def test_a_linear_layer_is_packed_once_a_shape_and_again_when_it_changed(blocked: list[torch.Size]) -> None:
    linear = nn.Linear(5, 7).requires_grad_(False)
    packed = PackedLinear.of(linear)
    one, two = torch.randn(1, 3, 5), torch.randn(2, 3, 5)
    for values in (one, one, two):
        assert_same(packed, linear, values)
    packed.weight.mul_(2)
    assert_same(packed, linear, two)
    for twin in (deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert "_packed" not in vars(twin)
        assert_same(twin, linear, two)
    assert blocked == [one.shape, *4 * [two.shape]]
    leaf = two.clone().requires_grad_()
    packed(leaf).square().sum().backward()
    assert leaf.grad is not None


class Mixing(nn.Module):
    """Attention of tokens to themselves, as transformers call it."""

    def __init__(self, attention: nn.MultiheadAttention, **options: Any) -> None:
        super().__init__()
        self.attention = attention
        self.options = options

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mixed tokens."""
        mixed: Tensor = self.attention(tokens, tokens, tokens, **({"need_weights": False} | self.options))[0]
        return mixed


def attentions(heads: int = 2, width: int = 8, **options: Any) -> tuple[nn.MultiheadAttention, PackedAttention]:
    """Return attention and its packed form, with parameters that are frozen and nowhere zero."""
    attention = nn.MultiheadAttention(width, heads, **options).requires_grad_(False).eval()
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.5)
    return attention, PackedAttention.of(attention)


@given(
    heads=st.integers(1, 4),
    width=st.integers(1, 8),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9)),
    bias=st.booleans(),
    batch_first=st.booleans(),
    layout=st.sampled_from(sorted(LAYOUTS)),
    inference=st.booleans(),
)
def test_attention_of_every_shape(
    heads: int, width: int, shape: tuple[int, int], bias: bool, batch_first: bool, layout: str, inference: bool
) -> None:
    attention, packed = attentions(heads, heads * width, bias=bias, batch_first=batch_first)
    tokens = LAYOUTS[layout](torch.randn(*shape, heads * width))
    with torch.inference_mode(inference):
        expected = Mixing(attention)(tokens)
        torch.testing.assert_close(Mixing(packed)(tokens), expected, rtol=1e-4, atol=1e-5)
    assert vars(packed)["_packed"].keys() == {"in_proj_weight", "out_proj.weight"}


MASK = torch.ones(5, 5).tril() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"need_weights": True},
        {"attn_mask": MASK},
        {"attn_mask": MASK, "is_causal": True},
        {"key_padding_mask": MASK[:2]},
    ],
    ids=["weights", "mask", "causal", "padding"],
)
def test_masks_and_weights_of_attention_are_pytorchs(options: dict[str, Any], blocked: list[torch.Size]) -> None:
    attention, packed = attentions(batch_first=True)
    tokens = torch.randn(2, 5, 8)
    for found, expected in zip(
        packed(tokens, tokens, tokens, **options), attention(tokens, tokens, tokens, **options), strict=True
    ):
        torch.testing.assert_close(found, expected)
    assert blocked == []


def test_attention_to_others_and_dropout_are_pytorchs(blocked: list[torch.Size]) -> None:
    attention, packed = attentions(dropout=0.5, batch_first=True)
    one, other = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    torch.testing.assert_close(
        packed(one, other, other, need_weights=False)[0], attention(one, other, other, need_weights=False)[0]
    )
    torch.testing.assert_close(Mixing(packed)(one[0]), Mixing(attention)(one[0]))
    for module in (attention, packed):
        module.train()
    torch.manual_seed(0)
    expected = Mixing(attention)(one)
    torch.manual_seed(0)
    torch.testing.assert_close(Mixing(packed)(one), expected)
    assert blocked == []


def test_attention_is_packed_once_a_shape_and_again_when_it_changed(blocked: list[torch.Size]) -> None:
    attention, packed = attentions(batch_first=True)
    one, two = torch.randn(1, 5, 8), torch.randn(2, 5, 8)
    for tokens in (one, one, two):
        assert_same(Mixing(packed), Mixing(attention), tokens)
    assert blocked == [one.shape, one.shape, two.shape, two.shape]
    packed.out_proj.weight.mul_(2)
    assert_same(Mixing(packed), Mixing(attention), two)
    assert len(blocked) == 5
    packed.out_proj.half().float()  # the attention itself is not told
    assert_same(Mixing(packed), Mixing(attention), two)
    for twin in (deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert "_packed" not in vars(twin)
        assert_same(Mixing(twin), Mixing(attention), two)
    assert packed.state_dict().keys() == attention.state_dict().keys()
    leaf = two.clone().requires_grad_()
    Mixing(packed)(leaf).square().sum().backward()
    assert leaf.grad is not None


def test_layers_of_transformers_take_packed_parts(blocked: list[torch.Size]) -> None:
    """PyTorch's own layers read the weights of their parts as often as they call them."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).requires_grad_(False).eval()
    twin = deepcopy(layer)
    twin.self_attn = PackedAttention.of(layer.self_attn)
    twin.linear1, twin.linear2 = PackedLinear.of(layer.linear1), PackedLinear.of(layer.linear2)
    tokens = torch.randn(2, 5, 8)
    assert_same(twin, layer, tokens)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        assert_same(twin, layer, tokens)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert len(blocked) == 4


@pytest.mark.filterwarnings("ignore:.*jit.script.*deprecated:FutureWarning")  # PyTorch itself uses it for this
@pytest.mark.parametrize("kind", ["convolution", "linear"])
def test_tangents_of_forward_mode_are_not_lost(kind: str) -> None:
    """oneDNN's operations know no derivatives; without care they would be zero."""
    images = torch.randn(2, 4, 8, 8)
    plain: nn.Module
    packed: nn.Module
    if kind == "convolution":
        plain, packed = pair()
    else:
        plain = nn.Linear(8, 6).requires_grad_(False)
        packed = PackedLinear.of(plain)
    found, expected = (torch.func.jvp(module, (images,), (images,)) for module in (packed, plain))
    assert expected[1].abs().max() > 0
    torch.testing.assert_close(found, expected)


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


def by_data(packed: PackedConv2d) -> None:
    packed.weight.data = torch.randn_like(packed.weight)


def another(packed: PackedConv2d) -> None:
    packed.weight = nn.Parameter(torch.randn_like(packed.weight), requires_grad=False)


def through_half(packed: PackedConv2d) -> None:
    packed.half().float()


@pytest.mark.parametrize("change", [in_place, by_state, by_assignment, by_data, another, through_half])
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
    packed.requires_grad_(False)
    assert packed.bias is not None
    packed.bias.requires_grad_(True)
    packed(images).sum().backward()
    assert packed.bias.grad is not None
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
    attention, mixing = (Mixing(module) for module in attentions(batch_first=True))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda images: assert_same(packed, plain, images), batches))
        list(pool.map(lambda images: assert_same(mixing, attention, images[:, 0]), batches))
